"""Tables ``[postprocessing]`` and ``[postprocessing.voronoi]``, and removed keys.

Operations, filters and rules are short texts, ``"dilate 1.5"`` or ``"area < 500"``: they fit on a
command line and into a sweep, and stand in the report of what was removed as they were written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from instaseg.settings import Table

Sign = Literal["<", "<=", ">", ">="]

MEDIAN_AXES = ("xy", "yz", "xz", "z", "xyz")
"""Axes a median filter may have, in any order of the letters."""

RADIUS, SIZE = "a radius", "a number of voxels"
OPERATIONS: dict[str, str | None] = {
    "dilate": RADIUS,
    "erode": RADIUS,
    "fill_holes": None,
    "clear_border": None,
    "remove_small": SIZE,
    "remove_large": SIZE,
}
"""Operations of `refine`, with what follows each of them."""

PROPERTIES: dict[str, tuple[int, ...]] = {
    "voxels": (2, 3),
    "area": (2,),
    "volume": (3,),
    "diameter": (2, 3),
    "feret_diameter": (2, 3),
    "perimeter": (2,),
    "surface": (3,),
    "circularity": (2,),
    "elongation": (2,),
    "sphericity": (3,),
    "sphericity_cubed": (3,),
    "solidity": (2, 3),
    "area_bbox": (2, 3),
    "area_filled": (2, 3),
    "axis_major_length": (2, 3),
    "axis_minor_length": (2, 3),
    "eccentricity": (2,),
    "equivalent_diameter_area": (2, 3),
    "euler_number": (2, 3),
    "extent": (2, 3),
    "orientation": (2,),
}
"""What can be measured of an instance, and for how many axes; those from ``area_bbox`` on are
attributes of ``skimage.measure.regionprops``."""

_OF_OTHER_AXES = {
    "area": "volume",
    "volume": "area",
    "perimeter": "surface",
    "surface": "perimeter",
    "circularity": "sphericity",
    "sphericity": "circularity",
    "sphericity_cubed": "circularity",
}
_SIGNS: dict[str, Sign] = {
    **{"<": "<", "<=": "<=", ">": ">", ">=": ">="},
    **{"lt": "<", "le": "<=", "gt": ">", "ge": ">="},
}
_RULE = re.compile(r"\s*(\w+)\s*(<=|>=|<|>|\s(?:lt|le|gt|ge)\s)\s*(\S+)\s*")


@dataclass(frozen=True)
class MedianFilter:
    """A median over a box of voxels.

    Parameters
    ----------
    axes : str
        Letters among ``xyz``.
    size : int
        Odd side of the box in voxels along these axes; 1 along the others.
    """

    axes: str
    size: int


@dataclass(frozen=True)
class Operation:
    """A step of the refinement: its name, and its radius (physical) or size (voxels), if any."""

    name: str
    value: float


@dataclass(frozen=True)
class Rule:
    """A comparison of a property of an instance with a number; `text` is how it was written."""

    name: str
    sign: Sign
    value: float
    text: str

    def holds(self, measured: float) -> bool:
        """Return whether the comparison holds for a measured value."""
        match self.sign:
            case "<":
                return measured < self.value
            case "<=":
                return measured <= self.value
            case ">":
                return measured > self.value
            case ">=":
                return measured >= self.value


def median_filter(text: str) -> MedianFilter:
    """Return the filter that a text such as ``"xy 3"`` means.

    Raises
    ------
    ValueError
        If it means none.
    """
    words = text.split()
    axes = "".join(sorted(words[0])) if words else ""
    size = int(words[-1]) if len(words) == 2 and words[1].isdecimal() else 0
    if axes not in MEDIAN_AXES or size % 2 == 0:
        raise ValueError(
            f'must be filters such as "z 5": axes ({", ".join(MEDIAN_AXES)}) and an odd size in'
            f' voxels; got "{text}"'
        )
    return MedianFilter(axes, size)


def operation(text: str) -> Operation:
    """Return the operation that a text such as ``"dilate 1.5"`` means.

    Raises
    ------
    ValueError
        If it means none.
    """
    name, *values = text.split() or [""]
    if name not in OPERATIONS:
        raise ValueError(
            f'must be operations {", ".join(OPERATIONS)}; got "{text}"'
            f"{_hint(name, list(OPERATIONS))}"
        )
    wanted = OPERATIONS[name]
    if wanted is None and not values:
        return Operation(name, 0.0)
    number = _number(values[0]) if len(values) == 1 else None
    whole = wanted == RADIUS or (number is not None and number.is_integer())
    if wanted is None or number is None or number <= 0 or not whole:
        follows = "nothing" if wanted is None else f'{wanted} above 0, as in "{name} 2"'
        raise ValueError(f'"{name}" must be followed by {follows}; got "{text}"')
    return Operation(name, number)


def rule(text: str) -> Rule:
    """Return the comparison that a text such as ``"area < 500"`` means.

    Raises
    ------
    ValueError
        If it means none; names the nearest property.
    """
    match = _RULE.fullmatch(text)
    number = _number(match[3]) if match else None
    if match is None or number is None:
        raise ValueError(
            'must be rules such as "area < 500": a property, a sign (<, <=, >, >= or lt, le, gt,'
            f' ge) and a number; got "{text}"'
        )
    sign = _SIGNS[match[2].strip()]
    return Rule(known_property(match[1]), sign, number, " ".join(text.split()))


def known_property(name: str) -> str:
    """Return `name` if it is a property.

    Raises
    ------
    ValueError
        If it is none; names the nearest one.
    """
    if name not in PROPERTIES:
        if name.startswith(("intensity", "image_intensity", "moments_weighted")):
            raise ValueError(f'"{name}" needs the image; instances are measured by shape alone')
        raise ValueError(
            f'unknown property "{name}"{_hint(name, list(PROPERTIES))} There are'
            f" {', '.join(PROPERTIES)}"
        )
    return name


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None


def _hint(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f'; did you mean "{near[0]}"?' if near else "."


def _checked(parse: Callable[[str], Any], texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return texts that `parse` takes, with single spaces."""
    for text in texts:
        parse(text)
    return tuple(" ".join(text.split()) for text in texts)


class VoronoiSettings(Table):
    """Growth of instances inside a mask of the prediction, each voxel to the nearest instance."""

    head: str | None = None
    """Head of the prediction that makes the mask, such as `fgbg`; instances do not grow where it is
    left out. Distances are those of paths inside the mask, in physical units."""
    channel: int = Field(default=0, ge=0)
    """Channel of the head, from 0."""
    plus: tuple[str, ...] = ()
    """Other heads whose first channel is added to it, such as `contour` to `interior`."""
    side: Literal["above", "below"] = "above"
    """Whether the mask is where the channel is above `threshold` or below it, as for a channel of
    the background or of distances."""
    threshold: float | Literal["otsu"] = 0.5
    """Value of the channel that bounds the mask; `otsu` finds one for each image."""
    most: float | None = Field(default=None, gt=0)
    """How far instances grow at most, in physical units; as far as the mask reaches where it is
    left out."""
    without_instance: Literal["background", "new"] = "background"
    """What becomes of a connected part of the mask in which no instance is: `background`, or a
    `new` instance."""

    @model_validator(mode="after")
    def _check_head(self) -> Self:
        usual = {name: field.default for name, field in type(self).model_fields.items()}
        unused = [name for name, value in usual.items() if getattr(self, name) != value]
        if self.head is None and unused:
            raise ValueError(
                "head must name the head of the prediction that makes the mask, because"
                f" {unused[0]} is given; got none"
            )
        return self


ON_PREDICTIONS = frozenset({"median"})
"""Keys of :class:`PostprocessingSettings` that need no instances, so that any method may use them.
"""


class PostprocessingSettings(Table):
    """How instances are repaired, in the order of the keys; `median` works on the prediction."""

    median: tuple[str, ...] = ()
    """Median filters on every channel of the prediction, in this order: axes (`xy`, `yz`, `xz`,
    `z`, `xyz`; in 2-D `xy` only) and an odd size in voxels, such as `["z 5", "xy 3"]`."""
    components: Literal["all", "largest"] = "all"
    """`largest` keeps only the largest connected part of every instance, `all` keeps every part."""
    fill_holes: Literal["none", "per_instance"] = "none"
    """`per_instance` gives background enclosed by one instance to that instance; what belongs to
    another instance stays."""
    refine: tuple[str, ...] = ()
    """Operations in this order, such as `["erode 2", "remove_small 20", "dilate 2"]`: `dilate R`
    into the background and `erode R` from all that is not the instance (radius in physical units),
    `fill_holes`, `clear_border` (removes what touches the image's border), `remove_small N` (at
    most N voxels), `remove_large N` (more than N)."""
    repair_size: int = Field(default=0, ge=0)
    """Instances of at least this many voxels take in the pieces that touch them and lie inside
    their bounding box (in 3-D with at most 30 % outside of it), and their holes are filled; 0 takes
    in none."""
    voronoi: VoronoiSettings = VoronoiSettings()
    """Growth inside a mask."""
    roi_key: str | None = None
    """Array of each sample, or folder beside the images with a file of each one's name, not 0 where
    instances are kept; what lies outside becomes background. Any shape: it is scaled to the image,
    nearest voxel, axis by axis."""
    measure: tuple[str, ...] = ()
    """Properties for the table beside the instances, see `docs/postprocessing.md`; those that
    `remove_where` names are added. Lengths, areas and volumes are in physical units."""
    perimeter: Literal["crofton", "contour"] = "crofton"
    """How a perimeter is measured: by counting crossings with lines (Crofton), or along the line
    through the outer pixels' centres, as BiaPy does, which needs square pixels."""
    remove_where: tuple[tuple[str, ...], ...] = ()
    """Instances that are removed: lists of rules, such as `[["area < 500"], ["voxels < 900",
    "circularity < 0.7"]]`. All rules of a list must hold, and one list suffices."""
    remove_small_comps: int = Field(default=0, ge=0)
    """Instances of at most this many voxels are removed; 0 keeps all."""
    relabel: Literal["sequential", "keep"] = "sequential"
    """`sequential` numbers the instances that are left 1, 2, 3 ...; `keep` keeps their numbers."""

    @field_validator("median")
    @classmethod
    def _check_median(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _checked(median_filter, value)

    @field_validator("refine")
    @classmethod
    def _check_refine(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _checked(operation, value)

    @field_validator("measure")
    @classmethod
    def _check_measure(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _checked(known_property, value)

    @field_validator("remove_where")
    @classmethod
    def _check_rules(cls, value: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        if not all(value):
            raise ValueError("must be lists of rules; got an empty list, which all instances meet")
        return tuple(_checked(rule, group) for group in value)

    @property
    def medians(self) -> tuple[MedianFilter, ...]:
        """The filters of `median`."""
        return tuple(median_filter(text) for text in self.median)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The operations of `refine`."""
        return tuple(operation(text) for text in self.refine)

    @property
    def rules(self) -> tuple[tuple[Rule, ...], ...]:
        """The rules of `remove_where`."""
        return tuple(tuple(rule(text) for text in group) for group in self.remove_where)

    @property
    def measured(self) -> tuple[str, ...]:
        """All properties that are measured, each once."""
        of_rules = [one.name for group in self.rules for one in group]
        return tuple(dict.fromkeys((*self.measure, *of_rules)))

    def problems(self, ndim: int) -> Iterator[str]:
        """Yield what does not suit images of `ndim` axes, as ``key: message``."""
        for text, one in zip(self.median, self.medians, strict=True):
            if ndim == 2 and "z" in one.axes:
                yield f'median: must be "xy SIZE" for images of 2 axes; got "{text}"'
        for name in self.measured:
            if ndim not in PROPERTIES[name]:
                other = _OF_OTHER_AXES.get(name)
                hint = f'; did you mean "{other}"?' if other else ""
                key = "measure" if name in self.measure else "remove_where"
                yield f'{key}: "{name}" is not measured in images of {ndim} axes{hint}'


_FILTERS = 'use median, a list such as ["z 5", "yz 3"]'
_RULES = 'use remove_where, for example [["circularity < 0.7"]]'
_VORONOI = "use [postprocessing.voronoi] with head, channel and threshold"

REMOVED_KEYS = {
    "postprocessing": {
        "Z_FILTERING": _FILTERS,
        "Z_FILTERING_SIZE": _FILTERS,
        "YZ_FILTERING": _FILTERS,
        "YZ_FILTERING_SIZE": _FILTERS,
        "MEDIAN_FILTER": _FILTERS,
        "MEDIAN_FILTER_AXIS": _FILTERS,
        "MEDIAN_FILTER_SIZE": _FILTERS,
        "INSTANCE_REFINEMENT": 'use refine, a list such as ["erode 2", "fill_holes"]',
        "WATERSHED_CIRCULARITY": (
            'use remove_where = [["circularity <= VALUE"]] with perimeter = "contour"'
        ),
        "REPARE_LARGE_BLOBS_SIZE": "use repair_size (0 for -1)",
        "VORONOI_ON_MASK": _VORONOI,
        "VORONOI_TH": _VORONOI,
        "MEASURE_PROPERTIES": f"use measure for what is measured; {_RULES}",
        "REMOVE_BY_PROPERTIES": _RULES,
    }
}
"""BiaPy's keys for post-processing, and what replaces each."""

"""Tables ``[method]`` and ``[vote_instances]`` of the method ``deep_watershed``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal, Self, cast

from pydantic import Field, field_validator, model_validator

from instaseg.methods.config import InstanceClassesSettings, Problem, without_effect
from instaseg.settings import Table

Probability = Annotated[float, Field(ge=0, le=1)]


class DeepWatershedSettings(Table):
    """``[method]``: what the networks of the method ``deep_watershed`` predict."""

    name: Literal["deep_watershed"] = "deep_watershed"
    """Name of the method."""

    network: Literal["shared", "stages"] = "shared"
    """`shared`: one U-Net with heads for foreground, directions and depth; `stages`: as published,
    a U-Net for the foreground, a Direction Net that sees the image inside of it, and a Watershed
    Transform Net that sees the directions only; trained with `[training.phases]`."""

    edges: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(0.5, 1.2, 1.7, 2.5, 3.5, 4.5, 6.5, 9.5, 13.5, 19.5), min_length=1
    )
    """Ascending depths between the levels, in units of the smallest side of a voxel. Their squares
    must not be whole numbers: those are the depths that voxels with equal sides have, and an edge
    at one of them would put voxels on either side by rounding. Labels are read this far around a
    crop, and a little farther."""

    depth: Literal["ordinal", "classes"] = "ordinal"
    """What is predicted of the level: a probability for each edge that the depth exceeds it, or,
    as published, one class for each level."""

    wall_width: int | None = None
    """Odd side in voxels of the square that walls between touching instances are drawn with, 3 or
    more; left out, there are no walls. With walls the foreground has three classes: background,
    cell and wall."""

    gate: Literal["hard", "soft"] = "hard"
    """How the Direction Net of `stages` is told the foreground: image and directions are set to 0
    outside, or the probability is one more channel of its input, so that mistakes can be mended;
    cells and walls together are the foreground."""

    mask_corruption: Probability = 0.5
    """Share of crops whose true mask is spoilt (grown, shrunk, parts dropped or added) before a
    Direction Net with `gate = "soft"` is trained with it."""

    direction_noise: float = Field(default=0.0, ge=0)
    """Standard deviation of the noise that each component of the directions gets in training before
    the Watershed Transform Net of `stages` sees them, so that it learns to bear the mistakes of
    predicted ones; 0 is as published."""

    background: Literal["ignored", "label"] = "ignored"
    """`label` gives background directions too, away from the nearest instance, as if it were one
    large instance; `ignored` trains directions inside of instances only."""

    background_reach: float = Field(default=20.0, gt=0)
    """With `background = "label"`, directions of background farther than this from any instance
    are not trained; in units of the smallest side of a voxel."""

    losses: Literal["balanced", "published"] = "balanced"
    """`balanced`: means over the voxels that count, cosines of directions, rim-heavy cross entropy
    of depths; `published`: cross entropy and Dice, squared angles over the square root of the
    instance's area, one against all other levels."""

    foreground_weight: float = Field(default=1.0, ge=0)
    """Weight of the foreground's loss."""

    direction_weight: float = Field(default=0.5, ge=0)
    """Weight of the directions' loss."""

    depth_weight: float = Field(default=1.0, ge=0)
    """Weight of the depth's loss."""

    rim_weight: float = Field(default=3.0, gt=0)
    """How much more the depth counts at the rim of instances (their first two levels) and in the
    background within 2 voxels of them; used by `losses = "balanced"`."""

    instance_classes: InstanceClassesSettings = InstanceClassesSettings()
    """Classes of instances: a head that tells of which class a voxel's instance is."""

    @field_validator("wall_width")
    @classmethod
    def _width_is_odd(cls, value: int | None) -> int | None:
        if value is not None and (value < 3 or value % 2 == 0):
            raise ValueError(f"must be odd, 3 or more; got {value}; leave it out for no walls")
        return value

    @field_validator("edges")
    @classmethod
    def _edges_separate(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(a >= b for a, b in itertools.pairwise(value)):
            raise ValueError(f"must ascend; got {list(value)}")
        whole = [edge for edge in value if abs(edge**2 - round(edge**2)) < 1e-3]
        if whole:
            raise ValueError(
                "must have no edge whose square is a whole number, which is a depth that voxels"
                f" have; got {whole[0]}; take {whole[0] + 0.05:.3g}, say"
            )
        return value

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.network == "stages" and self.instance_classes.count:
            raise ValueError(
                'network must be "shared" where instance_classes.count is above 0: the published'
                ' networks have no head for classes; got "stages"'
            )
        if self.network == "stages" and self.background == "label" and self.gate == "hard":
            raise ValueError(
                'background must be "ignored" where network = "stages" and gate = "hard": nothing'
                ' is seen outside of the gate; got "label"; set gate = "soft"'
            )
        if self.losses == "published" and self.depth == "ordinal":
            raise ValueError(
                'depth must be "classes" where losses = "published", which are those of classes;'
                ' got "ordinal"'
            )
        if self.losses == "published" and self.background == "label":
            raise ValueError(
                'background must be "ignored" where losses = "published", which do not count it;'
                ' got "label"'
            )
        return self


class LabelSettings(Table):
    """``[vote_instances]``: how predicted depths become instances."""

    OF_TYPE: ClassVar[Mapping[str, str]] = {"cut": "cut_of_type"}

    cut: float = Field(default=1.0, ge=0)
    """Depth above which voxels separate into instances, in units of the smallest side of a voxel
    like `method.edges`; higher values split more and lose thin instances."""

    cut_of_type: tuple[str, ...] = ()
    """`cut` of images of a type, such as `["cort 1.5", "astro 3"]`, where images have an attribute
    `type`; validation fills it in where it compares values of `cut`."""

    seed_cut: float | None = Field(default=None, ge=0)
    """A second, larger depth: what falls apart at it is several instances, though one at `cut`; and
    what does not reach it is still one instance. None uses `cut` alone."""

    neighbours: Literal["faces", "all"] = "faces"
    """Whether voxels that share only an edge or a corner are connected. Cuts below 1.5 separate
    touching instances under `faces` only."""

    fg_threshold: Probability = 0.5
    """Foreground probability above which a voxel is foreground."""

    grow: Literal["flood", "nearest", "dilate", "none"] = "flood"
    """How instances grow back what the cut took: over the foreground from deep to shallow
    (`flood`) or to the nearest instance (`nearest`), or, as published, by a square of side
    `dilate_width` whatever is below (`dilate`)."""

    grow_most: float | None = Field(default=None, gt=0)
    """Greatest distance that `flood` and `nearest` grow, in units of the smallest side of a voxel;
    about the cut plus 2 keeps instances off foreground that has no depth. None has no limit."""

    dilate_width: int = 3
    """Odd side of the square of `grow = "dilate"`."""

    unseeded: Literal["drop", "keep"] = "drop"
    """Whether connected foreground that nowhere is deeper than the cut becomes an instance."""

    fill_holes: int = Field(default=0, ge=0)
    """Holes of at most this many voxels, in what is deeper than the cut, are filled."""

    min_size: int = Field(default=0, ge=0)
    """Instances of fewer voxels, as they are before growing back, are dropped."""

    min_score: Probability = 0.0
    """Instances whose score is less are dropped: the mean of `2 p - 1` of the foreground
    probability over their voxels, not less than 0."""

    max_direction_error: float | None = Field(default=None, gt=0, le=2)
    """Instances whose own directions differ more from the predicted ones are dropped: mean of 1
    minus the cosine, 0 for agreement, 1 for random; None keeps all."""

    @field_validator("dilate_width")
    @classmethod
    def _width_is_odd(cls, value: int) -> int:
        if value < 1 or value % 2 == 0:
            raise ValueError(f"must be odd and positive; got {value}")
        return value

    @field_validator("cut_of_type")
    @classmethod
    def _types_have_cuts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            _type_and_cut(text)
        return value

    @model_validator(mode="after")
    def _cuts_ascend(self) -> Self:
        cuts = (self.cut, *(cut for _, cut in map(_type_and_cut, self.cut_of_type)))
        if self.seed_cut is not None and any(self.seed_cut <= cut for cut in cuts):
            raise ValueError(
                f"seed_cut must be larger than cut ({max(cuts):g}); got {self.seed_cut:g}"
            )
        return self

    def for_type(self, kind: str | None) -> LabelSettings:
        """Return the settings for an image of a type; those of other types are left out."""
        cuts = dict(map(_type_and_cut, self.cut_of_type))
        cut = self.cut if kind is None else cuts.get(kind, self.cut)
        return self.model_copy(update={"cut": cut, "cut_of_type": ()})


def _type_and_cut(text: str) -> tuple[str, float]:
    """Return what ``"cort 1.5"`` means."""
    kind, _, number = text.rpartition(" ")
    try:
        cut = float(number)
    except ValueError:
        cut = -1.0
    if not kind or not 0 <= cut < math.inf:
        raise ValueError(f'must be types with their cuts, such as "cort 1.5"; got "{text}"')
    return kind, cut


def disagreements(tables: Mapping[str, Table]) -> Iterator[Problem]:
    """Yield the keys that nothing looks at."""
    method = cast(DeepWatershedSettings, tables["method"])
    unused = {
        "network = 'shared'": (
            ("gate", "mask_corruption", "direction_noise") if method.network == "shared" else ()
        ),
        "gate = 'hard'": ("mask_corruption",) if method.gate == "hard" else (),
        "background = 'ignored'": (("background_reach",) if method.background == "ignored" else ()),
        "losses = 'published'": ("rim_weight",) if method.losses == "published" else (),
    }
    for why, keys in unused.items():
        yield from without_effect("method", method, keys, why)
    label = cast(LabelSettings, tables.get("vote_instances", LabelSettings()))
    users = {"dilate_width": ("dilate",), "grow_most": ("flood", "nearest")}
    idle = [key for key, ways in users.items() if label.grow not in ways]
    yield from without_effect("vote_instances", label, idle, f"grow = '{label.grow}'")

"""The rules of :mod:`instaseg.config.import_biapy` for how channels become instances.

Until 3.5 each threshold has a key of its own, found by Otsu's method (``auto``) or given
(``manual``); from 3.6 seeds and mask have lists of channels and of thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from instaseg.config.import_biapy_augmentation import Tables
from instaseg.data.config import DataSettings
from instaseg.errors import ConfigError
from instaseg.methods.channels.config import CHANNEL_NAMES, ChannelsSettings, LabelSettings
from instaseg.methods.channels.legacy import translate
from instaseg.methods.channels.presets import (
    AREAS,
    DEPTHS,
    EDGES,
    disagreements,
    find_preset,
    words,
)

if TYPE_CHECKING:
    from instaseg.config.import_biapy import Source

_SEG = "PROBLEM.INSTANCE_SEG."
_THRESHOLDS = {
    "seed_foreground": (f"{_SEG}DATA_MW_TH_BINARY_MASK", "DATA.MW_TH1"),
    "seed_contour": (f"{_SEG}DATA_MW_TH_CONTOUR", "DATA.MW_TH2"),
    "mask_foreground": (f"{_SEG}DATA_MW_TH_FOREGROUND", "DATA.MW_TH3"),
    "seed_distance": (f"{_SEG}DATA_MW_TH_DISTANCE", "DATA.MW_TH4"),
    "mask_distance": (f"{_SEG}DATA_MW_TH_DIST_FOREGROUND", "DATA.MW_TH5"),
    "seed_centre": (f"{_SEG}DATA_MW_TH_POINTS", f"{_SEG}TH_POINTS"),
}
"""Our thresholds, and what they were called until 3.5."""
_FAMILY = {
    **dict.fromkeys(AREAS, "foreground"),
    **dict.fromkeys(EDGES, "contour"),
    **dict.fromkeys((*DEPTHS, "ridge"), "distance"),
    "centre": "centre",
    "affinities": "affinity",
}
"""Channels, and the last word of the keys of their thresholds."""
_ROLES = (("seed", "SEED"), ("mask", "GROWTH_MASK"))
_ORDER = ("F", "B", "P", "C", "H", "V", "Z", "Db", "Dc", "Dn", "D", "T", "A")
"""The order in which thresholds are applied from 3.6: the first channel is made high inside."""
_LOW = ("B", "C", "T", "Dn", "Dc")
"""Letters of channels that are low inside instances."""


def decoding(source: Source, tables: Tables) -> dict[str, Any]:
    """Translate channels of seeds and mask, their thresholds, and what is done with both.

    Parameters
    ----------
    source : Source
        The keys of the file.
    tables : Tables
        The tables ``data`` and ``method`` and those below it, as they have been translated.
    """
    names = tables["method"]["channels"]
    found, unused = _by_family(source, tables)
    for role, theirs in _ROLES:
        named = _by_lists(source, names, role=role, theirs=theirs)
        if named is not None:
            found = {key: value for key, value in found.items() if not key.startswith(role)} | named
    surface = _seg(source, "TOPOGRAPHIC_SURFACE_CHANNEL")
    if surface and _by_watershed(source, names, "TOPOGRAPHIC_SURFACE_CHANNEL"):
        flooded = words(_names(source, [str(surface)]))
        if flooded != set(_preset_roles(names)["flooded"]):
            found["flooded_channels"] = sorted(flooded)
    if unused or {"otsu", "otsu_half"} & set(map(str, found.values())):
        _tell_automatic(source, unused)
    ndim = tables["data"]["ndim"]
    found |= {**_steps(source, ndim), **_sizes(source, ndim)}
    for key, why in _wrong(found, tables).items():
        name = next((one for one in _THRESHOLDS.get(key, ()) if source.has(one)), None)
        if name is not None or found[key] not in ("otsu", "otsu_half"):
            source.remark(name or f"{_SEG}WATERSHED ({key})", why)
        del found[key]
    return found


def voxel_size(source: Source) -> list[float]:
    """Return the physical size of a voxel; empty where there is none, or it is 1."""
    sides = source.take("DATA.TRAIN.RESOLUTION", "DATA.TEST.RESOLUTION")
    source.take("DATA.VAL.RESOLUTION", "DATA.TEST.RESOLUTION")
    if isinstance(sides, list) and any(side not in (1, -1) for side in sides):
        return [float(side) for side in sides]
    return []


def _seg(source: Source, name: str, default: Any = None) -> Any:
    """Return a key of instance segmentation, which may stand among those of the watershed."""
    return source.take(f"{_SEG}WATERSHED.{name}", f"{_SEG}{name}", default=default)


_TYPE = (f"{_SEG}DATA_MW_TH_TYPE", f"{_SEG}WATERSHED.TH_TYPE")


def _by_family(source: Source, tables: Tables) -> tuple[dict[str, Any], list[str]]:
    """Return thresholds that have a key each or are found for each image, and unused keys."""
    how = source.take(*_TYPE) or ("manual" if source.letters == "biapy_before_3.0" else "auto")
    values = {ours: source.take(*theirs) for ours, theirs in _THRESHOLDS.items()}
    numbers = {ours: float(value) for ours, value in values.items() if value is not None}
    side = (voxel_size(source) or [1.0])[-1]
    if tables.get("method.distance", {}).get("scale") == "physical" and side != 1:
        for ours in sorted({"seed_distance", "mask_distance"} & set(numbers)):
            numbers[ours] *= side
            source.remark(
                next(name for name in _THRESHOLDS[ours] if source.has(name)),
                f"{values[ours]} voxels of {side:g} in the plane have become {numbers[ours]:g}",
            )
    if how != "auto":
        return numbers, []
    found = _automatic(source, tables["method"]["channels"])
    if source.letters != "biapy_from_3.6" and "seed_distance" in numbers:
        found["seed_distance"] = numbers.pop("seed_distance")  # distances had no automatic one
    return found, [next(n for n in _THRESHOLDS[ours] if source.has(n)) for ours in numbers]


def _tell_automatic(source: Source, unused: Sequence[str]) -> None:
    """Say what automatic thresholds have become, and which given ones they replace."""
    later, given = source.letters == "biapy_from_3.6", any(map(source.has, _TYPE))
    source.remark(
        f"{_SEG}WATERSHED.SEED_CHANNELS_THRESH" if later else _TYPE[0],
        f"{'' if given or later else 'not given: auto; '}thresholds that BiaPy finds are"
        ' "otsu" and "otsu_half", found for each whole image; values that validate_checkpoints'
        " compares ([validation] params_product) are mostly better",
    )
    if unused:
        source.remark(
            _TYPE[0],
            f"is auto, with which these are not used, and left out: {', '.join(unused)}"
            + ("" if given or later else "; 3.0 knew no auto: add DATA_MW_TH_TYPE: manual then"),
        )


def _preset_roles(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the channels that a set of channels has for each role by itself."""
    found = find_preset(names)
    if found is None:
        return {"seed": (), "mask": (), "flooded": ()}
    preset, parts = found
    roles = {"seed": preset.seeds, "mask": preset.mask, "flooded": preset.flooded}
    return {role: tuple(parts[n] for n in chosen) for role, chosen in roles.items()}


def _automatic(source: Source, names: Sequence[str]) -> dict[str, Any]:
    """Return the thresholds that are found for each image: Otsu's for seeds, half for the mask."""
    found = find_preset(names)
    if found is None or found[0].decoder != "watershed":
        return {}
    later = source.letters == "biapy_from_3.6"
    # Until 3.5 the mask of centres is where the foreground is above Otsu's threshold itself.
    half = "otsu" if found[0].name == "BP, FP" and not later else "otsu_half"
    roles = _preset_roles(names)
    thresholds = {f"seed_{_FAMILY[name]}": "otsu" for name in roles["seed"]}
    thresholds |= {
        f"mask_{_FAMILY[name]}": half for name in roles["mask"] if name != "signed_distance"
    }
    distances = ("seed_distance", "mask_distance")
    return {key: how for key, how in thresholds.items() if later or key not in distances}


def _by_watershed(source: Source, names: Sequence[str], key: str) -> bool:
    """Return whether channels are flooded here; if not, say that a key of the watershed is not."""
    found = find_preset(names)
    if found is None or found[0].decoder == "watershed":
        return True
    source.remark(
        f"{_SEG}WATERSHED.{key}", f"{', '.join(names)} are decoded without a watershed; left out"
    )
    return False


def _names(source: Source, letters: Sequence[str]) -> tuple[str, ...]:
    """Return the channels that letters mean."""
    try:
        return translate(letters, CHANNEL_NAMES, source.letters).names
    except ValueError as error:
        raise ConfigError(f"{_SEG}WATERSHED: {error}") from error


def _by_lists(
    source: Source, names: Sequence[str], *, role: str, theirs: str
) -> dict[str, Any] | None:
    """Return the channels of a role and their thresholds; None where they are not named."""
    key = f"{theirs}_CHANNELS"
    letters, given = _seg(source, key), _seg(source, f"{key}_THRESH", default=[])
    letters = [] if letters in (None, "", "auto") else letters
    letters = [letters] if isinstance(letters, str) else [str(letter) for letter in letters]
    given = given if isinstance(given, list) else [given]
    if not letters and not given:
        return None
    if not _by_watershed(source, names, key):
        return None
    if not letters or (given and len(given) != len(letters)):
        source.remark(
            f"{_SEG}WATERSHED.{key}_THRESH",
            f"expected a value for each of {key} ({len(letters)}), found {len(given)}; left out",
        )
        given = []
    if not letters:
        return None
    found: dict[str, Any] = {}
    first = min(letters, key=lambda letter: _ORDER.index(letter) if letter in _ORDER else 99)
    for letter, value in zip(letters, given or ["auto"] * len(letters), strict=True):
        (name,) = words(_names(source, [letter]))
        if name not in _FAMILY:
            raise ConfigError(f"{_SEG}WATERSHED.{key}: {letter} has no threshold here; remove it")
        ours = _threshold(letter, value, role=role, is_first=letter == first)
        shared = f"{role}_{_FAMILY[name]}"
        before = found.setdefault(shared, ours)
        numbers = [one for one in (before, ours) if isinstance(one, float)]
        if name == "offsets" and numbers:
            found[shared] = min(numbers)  # the smallest is that of all of them
        elif before != ours:
            source.remark(
                f"{_SEG}WATERSHED.{key}_THRESH",
                f"{letter} shares the key {shared} with the channel before it; {before} is taken,"
                f" not {ours}",
            )
        if (role, value) == ("mask", "auto") and letter in _LOW and letter != first:
            source.remark(
                f"{_SEG}WATERSHED.{key}_THRESH",
                f"{letter}: below half of Otsu's threshold there, below Otsu's threshold here",
            )
    channels = words(_names(source, letters))
    if channels != set(_preset_roles(names)[role]):
        found[f"{role}_channels"] = sorted(channels)
    return {name: value for name, value in found.items() if value is not None}


def _threshold(letter: str, value: Any, *, role: str, is_first: bool) -> float | str | None:
    """Return a threshold of 3.6 and later as one of ours, which is in the channel's own values.

    There the first channel is turned around if it is low inside, and others are not. Here that
    of the background is of the foreground's probability.
    """
    if value == "auto":
        if role == "seed":
            return "otsu"
        if letter in _LOW and not is_first:
            return "otsu"
        return None if letter == "D" else "otsu_half"
    if letter in _LOW and is_first == (letter != "B"):
        return round(1 - float(value), 6)
    return float(value)


def _wrong(found: Mapping[str, Any], tables: Tables) -> dict[str, str]:
    """Return the keys that do not suit the channels, and why."""
    inner = {name.removeprefix("method."): keys for name, keys in tables.items() if "." in name}
    try:
        method = ChannelsSettings.model_validate({**tables["method"], **inner})
        labelling = LabelSettings.model_validate(found)
    except ValidationError:
        return {}  # the whole configuration is checked later, with a message for each key
    data_table = DataSettings(ndim=tables["data"]["ndim"])
    wrong = disagreements({"method": method, "vote_instances": labelling, "data": data_table})
    return {
        key: f"{message}; left out"
        if message.startswith("must be a value")
        else "is not used with these channels; left out"
        for (table, key, *_), message in wrong
        if table == "vote_instances" and key in found
    }


def _steps(source: Source, ndim: int) -> dict[str, Any]:
    """Translate what is done with seeds and mask; discs of each section have become balls."""
    side = (voxel_size(source) or [1.0])[-1]
    sequence = [str(step) for step in _seg(source, "SEED_MORPH_SEQUENCE", default=[])]
    radii = list(_seg(source, "SEED_MORPH_RADIUS", default=[]))
    found: dict[str, Any] = {}
    if len(sequence) != len(radii) or {*sequence} - {"dilate", "erode"}:
        source.remark(
            f"{_SEG}WATERSHED.SEED_MORPH_SEQUENCE",
            f"expected dilate and erode with a radius each, found {sequence} and {radii}; left out",
        )
    elif sequence:
        found |= {"seed_steps": sequence, "seed_radii": [float(r) * side for r in radii]}
    closes = [
        _seg(source, name, default=False)
        for name in ("ERODE_AND_DILATE_FOREGROUND", "ERODE_AND_DILATE_GROWTH_MASK")
    ]
    # The key of the erosion is the radius of the dilation, which comes first, and vice versa.
    first, then = (
        float(_seg(source, f"FORE_{name}_RADIUS", default=5)) * side
        for name in ("EROSION", "DILATION")
    )
    if any(closes):
        found |= {"mask_steps": ["dilate", "erode"], "mask_radii": [first, then]}
    if found and ndim == 3:
        source.remark(
            f"{_SEG}WATERSHED.{'SEED_MORPH_RADIUS' if sequence else 'FORE_DILATION_RADIUS'}",
            "discs of each section have become balls of the same radius, in physical units",
        )
    return found


def _sizes(source: Source, ndim: int) -> dict[str, Any]:
    """Translate the least sizes of seeds and instances, in voxels there and physical here.

    Parameters
    ----------
    source : Source
        The keys of the file.
    ndim : int
        Axes of the images.
    """
    least = source.take(f"{_SEG}DATA_REMOVE_SMALL_OBJ")
    before = _seg(source, "DATA_REMOVE_SMALL_OBJ_BEFORE", default=10 if least is None else least)
    after = _seg(source, "DATA_REMOVE_SMALL_OBJ_AFTER", default=100 if least is None else least)
    sides = voxel_size(source)
    voxel = math.prod(sides) if len(sides) == ndim and min(sides) > 0 else 1.0
    found: dict[str, Any] = {}
    if _seg(source, "DATA_REMOVE_BEFORE_MW", default=False) and before:
        found["min_seed"] = float(before) * voxel
    if _seg(source, "DATA_REMOVE_AFTER_MW", default=False) and after:
        found["min_object"] = float(after) * voxel
    if found and voxel != 1:
        source.remark(
            f"{_SEG}DATA_REMOVE_SMALL_OBJ", f"in physical units: voxels times their size {voxel:g}"
        )
    if _seg(source, "DATA_CHECK_MW", default=False):
        found["check_files"] = "write"
    return found

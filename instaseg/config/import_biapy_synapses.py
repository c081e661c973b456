"""The rules of :mod:`instaseg.config.import_biapy` for synapses: sites, distances, peaks.

BiaPy measures in voxels, and blobs are balls of some voxels along each axis; here all lengths are
physical. A ball becomes one of its largest physical radius.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from instaseg.config.import_biapy_augmentation import Tables
from instaseg.config.import_biapy_decoding import voxel_size
from instaseg.errors import ConfigError
from instaseg.methods.synapses.config import SITES, Kind

if TYPE_CHECKING:
    from instaseg.config.import_biapy import Source

_SEG = "PROBLEM.INSTANCE_SEG."
_SYN = f"{_SEG}SYNAPSES."
_KINDS: dict[frozenset[str], Kind] = {
    frozenset({"F_pre", "F_post"}): "pre_post",
    frozenset({"F_post", "Z", "V", "H"}): "post_vector",
    frozenset({"F_post"}): "post",
    frozenset({"F_cleft"}): "cleft",
}
_BLOB, _VECTOR = (1, 3, 3), (3, 25, 25)
"""Voxels by which sites, and the places of vectors, are dilated where the file does not say."""
_CREMI = ("ID", "PARTNERS", "LOCATIONS", "RESOLUTION")


def synapses(source: Source, data: Tables) -> Tables:
    """Translate the workflow of synapses.

    Parameters
    ----------
    source : Source
        The keys of the file.
    data : Tables
        Table ``data`` with the number of axes; it is part of the result.

    Raises
    ------
    ConfigError
        If its channels are no set that is known, or the size of a voxel is not given.
    """
    kind = _kind(source)
    spacing = _spacing(source)
    options = _options(source)
    method: dict[str, Any] = {"name": "synapses", "kind": kind}
    sizes = [options.get(f"F_{site}", {}).get("dilation", _BLOB) for site in SITES[kind]]
    method["blob_radius"] = max(_radius(source, size, spacing) for size in sizes)
    if kind == "post_vector":
        widened = next((options[one] for one in ("Z", "V", "H") if one in options), {})
        radius = _radius(source, widened.get("dilation", _VECTOR), spacing)
        method["vector_radius"] = radius
    if kind in ("pre_post", "post_vector"):
        # BiaPy has no limit; without one every site gets a partner, however far away.
        method["partner_distance"] = 4 * max(method["blob_radius"], method.get("vector_radius", 0))
        source.remark(
            f"{_SEG}DATA_CHANNELS",
            "method.partner_distance, the greatest distance of two sites that belong together, has"
            f" no counterpart; {method['partner_distance']:g} is a guess: look at your connections",
        )
    _read_keys(source)
    return {
        "data": {**data["data"], "voxel_size": spacing, **_raw_key(source)},
        "method": method,
        "vote_instances": _peaks(source, SITES[kind], spacing),
        "evaluation": _evaluation(source, kind),
    }


def _kind(source: Source) -> Kind:
    words = source.take(f"{_SEG}DATA_CHANNELS", default=["F_pre", "F_post"])
    words = [words] if isinstance(words, str) else [str(word) for word in words]
    kind = _KINDS.get(frozenset(words))
    if kind is None:
        sets = "; ".join(", ".join(sorted(names)) for names in _KINDS)
        raise ConfigError(
            f"{_SEG}DATA_CHANNELS: expected the channels of synapses from 3.6 ({sets}), found"
            f' {", ".join(words)}; write them so, or [method] name = "synapses" yourself, see'
            " docs/methods/synapses.md"
        )
    return kind


def _spacing(source: Source) -> list[float]:
    given = source.values.get("DATA.TRAIN.RESOLUTION", source.values.get("DATA.TEST.RESOLUTION"))
    found = voxel_size(source) or (given if isinstance(given, list) else [])
    if len(found) != 3:
        raise ConfigError(
            "DATA.TRAIN.RESOLUTION: expected the size of a voxel along z, y and x, because"
            f" distances of synapses are physical here, found {given}; add it to the file"
        )
    return [float(side) for side in found]


def _options(source: Source) -> dict[str, Mapping[str, Any]]:
    """Return the options of channels, by channel."""
    groups = source.take(f"{_SEG}DATA_CHANNELS_EXTRA_OPTS", default=[])
    groups = groups if isinstance(groups, list) else [groups]
    return {
        str(letter): dict(keys)
        for group in groups
        if isinstance(group, Mapping)
        for letter, keys in group.items()
        if isinstance(keys, Mapping)
    }


def _radius(source: Source, voxels: Any, spacing: Sequence[float]) -> float:
    """Return the largest physical radius of a ball of some voxels along each axis."""
    sides = voxels if isinstance(voxels, (list, tuple)) else [voxels] * len(spacing)
    if len(sides) != len(spacing):
        source.remark(
            f"{_SEG}DATA_CHANNELS_EXTRA_OPTS",
            f"dilation: expected a number for each of 3 axes, found {voxels}; {_BLOB} is taken",
        )
        sides = _BLOB
    return max(float(side) * size for side, size in zip(sides, spacing, strict=True))


def _raw_key(source: Source) -> dict[str, str]:
    """Return the key of the image, and say that annotations are found by themselves."""
    found: dict[str, str] = {}
    for role in ("TRAIN", "VAL", "TEST"):
        prefix = f"DATA.{role}.INPUT_ZARR_MULTIPLE_DATA"
        raw = source.take(f"{prefix}_RAW_PATH")
        if raw:
            found.setdefault("raw_key", str(raw).replace(".", "/"))
        given = [source.take(f"{prefix}_{name}_PATH") for name in _CREMI]
        if any(given):
            source.remark(
                f"{prefix}_*_PATH", "annotations are read where files of CREMI have them; left out"
            )
        source.take(prefix)
    return found


def _read_keys(source: Source) -> None:
    """Say what is different about the keys that have one meaning here."""
    function = source.take(f"{_SYN}POINT_CREATION_FUNCTION", default="peak_local_max")
    if function != "peak_local_max":
        source.remark(
            f"{_SYN}POINT_CREATION_FUNCTION",
            f"{function} is not available; sites are peaks of the probability",
        )
    source.take(f"{_SEG}TYPE")


def _peaks(source: Source, sites: Sequence[str], spacing: Sequence[float]) -> dict[str, Any]:
    """Return how probabilities become points."""
    how = str(source.take(f"{_SYN}TH_TYPE", default="auto"))
    by = {"auto": "otsu", "manual": "value", "relative": "relative"}.get(how)
    if by is None:
        source.remark(f"{_SYN}TH_TYPE", f"{how} is not available; relative is taken")
        by = "relative"
    keys: dict[str, Any] = {"threshold_by": by}
    least = source.take(f"{_SYN}MIN_TH_TO_BE_PEAK", default=0.2)
    if by != "otsu":
        values = least if isinstance(least, list) else [least] * len(sites)
        pairs = zip(sites, values, strict=False)
        keys |= {f"{site}_threshold": float(value) for site, value in pairs}
    apart = int(source.take(f"{_SYN}PEAK_LOCAL_MAX_MIN_DISTANCE", default=1)) * min(spacing)
    names = ("PRE", "POST", "CLEFT")
    radii = [source.take(f"{_SYN}REMOVE_CLOSE_{name}_POINTS_RADIUS", default=0) for name in names]
    keys["min_distance"] = max([apart, *map(float, radii)])
    if len({radius for radius in radii if radius}) > 1:
        source.remark(
            f"{_SYN}REMOVE_CLOSE_PRE_POINTS_RADIUS",
            f"all sites have one distance here; {keys['min_distance']:g} is taken",
        )
    return keys


def _evaluation(source: Source, kind: Kind) -> dict[str, Any]:
    tolerance = source.take("TEST.DET_TOLERANCE", default=10)
    first = tolerance[0] if isinstance(tolerance, list) else tolerance
    connected = kind in ("pre_post", "post_vector")
    return {"tolerance": float(first), "metric": f"{'connections' if connected else kind}.F1"}

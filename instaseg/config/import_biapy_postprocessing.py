"""The rules of :mod:`instaseg.config.import_biapy` for ``TEST.POST_PROCESSING`` and its like."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from instaseg.config.import_biapy_augmentation import Tables
from instaseg.postprocess.config import MEDIAN_AXES, ON_PREDICTIONS, PROPERTIES

if TYPE_CHECKING:
    from instaseg.config.import_biapy import Source

_POST = "TEST.POST_PROCESSING."
_MEASURE = f"{_POST}MEASURE_PROPERTIES."
_FILTER = f"{_MEASURE}REMOVE_BY_PROPERTIES."


def repair(source: Source) -> Tables:
    """Translate what is done with predictions and instances after the watershed."""
    ndim = 3 if "3" in str(source.values.get("PROBLEM.NDIM", "2D")) else 2
    keys: dict[str, Any] = {
        "median": _medians(source, ndim),
        "refine": _refinement(source),
        "repair_size": max(0, int(source.take(f"{_POST}REPARE_LARGE_BLOBS_SIZE", default=-1))),
        "measure": _measured(source, ndim),
        "remove_where": _round_ones(source, ndim) + _rules(source, ndim),
    }
    named = [*keys["measure"], *(rule for group in keys["remove_where"] for rule in group)]
    if any(text.startswith(("circularity", "perimeter", "elongation")) for text in named):
        keys["perimeter"] = "contour"
    region = source.take("DATA.TEST.ROI_MASK", f"{_POST}APPLY_MASK")
    if region not in (None, False, ""):
        source.remark(
            "DATA.TEST.ROI_MASK",
            "put masks in a folder beside the images, or as an array into each sample's zarr"
            " folder or HDF5 file, and name it in postprocessing.roi_key",
        )
    keys = {name: value for name, value in keys.items() if value}
    semantic = str(source.values.get("PROBLEM.TYPE", "SEMANTIC_SEG")).upper().startswith("SEMANTIC")
    if semantic or source.values.get("PROBLEM.INSTANCE_SEG.TYPE") == "synapses":
        for name in sorted(set(keys) - ON_PREDICTIONS):
            source.remark(_POST[:-1], f"{name} repairs instances, and there are none; left out")
            del keys[name]
    return {"postprocessing": keys} if keys else {}


def growth(source: Source, channels: Sequence[str]) -> Tables:
    """Translate Voronoi's growth, whose mask is one of the predicted channels.

    Parameters
    ----------
    source : Source
        The keys of the file.
    channels : sequence of str
        Names of the channels that are predicted.
    """
    wanted = source.take(f"{_POST}VORONOI_ON_MASK", default=False)
    threshold = float(source.take(f"{_POST}VORONOI_TH", default=0.0))
    if not wanted:
        return {}
    areas = ("foreground", "interior", "background")
    head = next((name for name in areas if name in channels), None)
    if head is None:
        source.remark(
            f"{_POST}VORONOI_ON_MASK",
            f"the channels {', '.join(channels)} give no mask; see [postprocessing.voronoi]",
        )
        return {}
    keys: dict[str, Any] = {"head": head, "threshold": threshold if threshold > 0 else "otsu"}
    if head == "interior" and "contour" in channels:
        keys["plus"] = ["contour"]  # together the instance: what BiaPy sums
    if head == "background":
        keys["side"] = "below"
        keys["threshold"] = 1 - threshold if threshold > 0 else "otsu"
    mask = " + ".join([head, *keys.get("plus", [])])
    source.remark(f"{_POST}VORONOI_ON_MASK", f"instances grow along paths inside the mask ({mask})")
    return {"postprocessing.voronoi": keys}


def _medians(source: Source, ndim: int) -> list[str]:
    """Translate median filters, those of before 3.5 in the order in which they were applied."""
    filters: list[tuple[str, str, int]] = []
    for name, axes in (("YZ_FILTERING", "yz"), ("Z_FILTERING", "z")):
        wanted = source.take(f"{_POST}{name}", default=False)
        size = source.take(f"{_POST}{name}_SIZE", default=5)
        filters += [(name, axes, int(size))] if wanted else []
    wanted = source.take(f"{_POST}MEDIAN_FILTER", default=False)
    all_axes = _listed(source.take(f"{_POST}MEDIAN_FILTER_AXIS", default=[]))
    sizes = _listed(source.take(f"{_POST}MEDIAN_FILTER_SIZE", default=[]))
    if wanted:
        pairs = zip(all_axes, sizes, strict=False)
        filters += [("MEDIAN_FILTER", str(axes), int(size)) for axes, size in pairs]
    found = []
    for name, axes, size in filters:
        if ndim == 2 and "z" in axes:
            source.remark(
                f"{_POST}{name}",
                'needs volumes; set data.ndim = 3 with data.stack = "z" where images are sections',
            )
        elif "".join(sorted(axes)) not in MEDIAN_AXES:
            source.remark(f"{_POST}{name}", f"no filter has the axes {axes}; left out")
        else:
            found.append(f"{''.join(sorted(axes))} {size + 1 - size % 2}")
    return found


_OPERATIONS = {
    "dilation": "dilate",
    "erosion": "erode",
    "fill_holes": "fill_holes",
    "clear_border": "clear_border",
    "remove_small_objects": "remove_small",
    "remove_big_objects": "remove_large",
    "remove_large_objects": "remove_large",
}


def _refinement(source: Source) -> list[str]:
    """Translate operations on instances, and the flags that stood for two of them before."""
    prefix = f"{_POST}INSTANCE_REFINEMENT."
    enabled = source.take(f"{prefix}ENABLE", default=False)
    names = _listed(source.take(f"{prefix}OPERATIONS", default=[]))
    values = _listed(source.take(f"{prefix}VALUES", default=[]))
    flags = [
        name
        for name in ("fill_holes", "clear_border")
        if source.take(f"{_POST}{name.upper()}", default=False)
    ]
    if not enabled:
        return flags
    found = []
    for name, value in zip(names, values, strict=False):
        ours = _OPERATIONS.get(str(name))
        if ours is None:
            source.remark(f"{prefix}OPERATIONS", f"{name} is not available; left out")
        elif ours in ("fill_holes", "clear_border"):
            found.append(ours)
        elif ours in ("dilate", "erode"):
            radius = _radius(source, prefix, value)
            found += [f"{ours} {radius}"] if radius else []
        else:
            found.append(f"{ours} {int(value)}")
    return found + flags


def _radius(source: Source, prefix: str, value: Any) -> int:
    """Return the radius of a box, which was given by its sides in voxels."""
    source.remark(
        f"{prefix}VALUES",
        "sides of boxes in voxels have become radii of balls in physical units: look at them",
    )
    return int(max(value) if isinstance(value, list) else value) // 2


_PROPERTIES = {"npixels": "voxels", "sphericity": "sphericity_cubed"}
_MEASURED = {
    2: ("voxels", "area", "circularity", "diameter", "perimeter", "elongation"),
    3: ("voxels", "volume", "sphericity_cubed", "diameter", "surface"),
}
"""What BiaPy always measures, in our names."""
_OF_VOLUMES = {"area": "volume", "perimeter": "surface"}


def _property(name: str, ndim: int) -> str | None:
    """Return our name of a property; None if it is not measured in images of `ndim` axes."""
    name = _PROPERTIES.get(name, name)
    if ndim == 3:
        name = _OF_VOLUMES.get(name, name)
    return name if ndim in PROPERTIES.get(name, ()) else None


def _measured(source: Source, ndim: int) -> list[str]:
    """Translate what is measured."""
    enabled = source.take(f"{_MEASURE}ENABLE", default=False)
    extra = _listed(source.take(f"{_MEASURE}EXTRA_PROPS", default=[]))
    if not enabled:
        return []
    names = {name: _property(str(name), ndim) for name in extra}
    for name in (name for name, ours in names.items() if ours is None):
        source.remark(f"{_MEASURE}EXTRA_PROPS", f"{name} is not measured; left out")
    return list(dict.fromkeys((*_MEASURED[ndim], *filter(None, names.values()))))


def _round_ones(source: Source, ndim: int) -> list[list[str]]:
    """Translate the oldest filter, which removed what is not round enough."""
    least = source.take(f"{_POST}WATERSHED_CIRCULARITY", default=-1)
    if least > 0 and ndim == 3:
        source.remark(f"{_POST}WATERSHED_CIRCULARITY", "is of images; see sphericity in measure")
    return [[f"circularity <= {least}"]] if least > 0 and ndim == 2 else []


def _rules(source: Source, ndim: int) -> list[list[str]]:
    """Translate what instances are removed by: lists of properties, values and signs."""
    before = f"{_POST}REMOVE_BY_PROPERTIES"
    groups = source.take(f"{_FILTER}PROPS", before, default=[])
    values = source.take(f"{_FILTER}VALUES", f"{before}_VALUES", default=[])
    signs = source.take(
        f"{_FILTER}SIGNS", f"{_FILTER}SIGN", f"{before}_SIGN", f"{before}_SIGNS", default=[]
    )
    if not source.take(f"{_FILTER}ENABLE", default=bool(groups)):
        return []
    found = []
    for names, numbers, words in zip(groups, values, signs, strict=False):
        ours = [_property(str(name), ndim) for name in names]
        if None in ours or not ours:
            source.remark(
                f"{_FILTER}PROPS", f"{_joined(names)}: not all of them are measured; left out"
            )
            continue
        rules = zip(ours, words, numbers, strict=False)
        found.append([f"{name} {word} {number}" for name, word, number in rules])
    if found:
        source.remark(f"{_FILTER}PROPS", "lengths, areas and volumes are in physical units")
    return found


def _joined(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names)) or "no property"


def _listed(value: Any) -> list[Any]:
    """Return a list; of a single value, that of the value."""
    return list(value) if isinstance(value, (list, tuple)) else [value]

"""The rules of :mod:`instaseg.config.import_biapy` for the section ``AUGMENTOR``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instaseg.config.import_biapy import Source

Tables = dict[str, dict[str, Any]]
"""Keys by dotted name of their table."""


def augmentation(source: Source) -> Tables:
    """Translate ``AUGMENTOR``; what is not named there is turned off."""
    path = "training.augmentation."
    on = bool(source.take("AUGMENTOR.ENABLE", default=False))
    chance = float(source.take("AUGMENTOR.DA_PROB", default=0.5))
    mine: Tables = {
        **{f"{path}elastic": _deformation(source, on, chance)},
        **{f"{path}simple": _mirrors(source, on)},
        **{f"{path}intensity": _contrast(source, on, chance)},
    }
    for flag, (table, keys) in _SIMPLE_RULES.items():
        happens = source.take(f"AUGMENTOR.{flag}", default=False)
        values = {
            ours: _interval(found) if ours in _INTERVALS else found
            for ours, theirs in keys.items()
            if (found := source.take(f"AUGMENTOR.{theirs}")) is not None
        }
        unfit = _unfit(source, table)
        if on and happens and unfit:
            source.remark(f"AUGMENTOR.{flag}", f"{unfit}; left out")
        elif on and happens and f"{path}{table}" in mine:
            source.remark(f"AUGMENTOR.{flag}", f"one kind of {table} at a time; left out")
        elif on and happens:
            mine[f"{path}{table}"] = {"probability": chance, **values, **_FIXED.get(flag, {})}
    return mine


_SIMPLE_RULES: dict[str, tuple[str, dict[str, str]]] = {
    "G_BLUR": ("blur", {"sigma": "G_SIGMA"}),
    "GAMMA_CONTRAST": ("gamma", {"range": "GC_GAMMA"}),
    "DROPOUT": ("dropout", {"share": "DROP_RANGE"}),
    "CUTOUT": ("cutout", {"count": "COUT_NB_ITERATIONS", "size": "COUT_SIZE"}),
    "CUTNOISE": ("cutout", {"count": "CNOISE_NB_ITERATIONS", "size": "CNOISE_SIZE"}),
    "CUTBLUR": ("cutout", {"size": "CBLUR_SIZE"}),
    "MISALIGNMENT": ("misalignment", {"max_shift": "MS_DISPLACEMENT"}),
    "MISSING_SECTIONS": ("missing_sections", {}),
    "GRAYSCALE": ("grayscale", {}),
    "CHANNEL_SHUFFLE": ("permute_channels", {}),
    "POISSON_NOISE": ("poisson", {}),
    "GAUSSIAN_NOISE": ("noise", {}),
    "SALT_AND_PEPPER": ("salt_pepper", {"share": "SALT_AND_PEPPER_AMOUNT"}),
    "SALT": ("salt_pepper", {"share": "SALT_AMOUNT"}),
    "PEPPER": ("salt_pepper", {"share": "PEPPER_AMOUNT"}),
}
"""Their switch: our table, and our keys with theirs."""

_INTERVALS = ("sigma", "range", "share", "count", "size")
_FIXED = {
    "CUTOUT": {"fill": "zero"},
    "CUTNOISE": {"fill": "noise"},
    "CUTBLUR": {"fill": "blur"},
    "DROPOUT": {"fill": "zero"},
    "SALT": {"kind": "salt"},
    "PEPPER": {"kind": "pepper"},
}


def _unfit(source: Source, table: str) -> str | None:
    """Return why a step cannot be done with the images; None where it can."""
    if table in ("misalignment", "missing_sections"):
        volumes = "3" in str(source.values.get("PROBLEM.NDIM", "2D"))
        return None if volumes else "needs volumes, which have sections"
    if table in ("grayscale", "permute_channels"):
        patch = source.values.get("DATA.PATCH_SIZE")
        colour = isinstance(patch, list) and patch[-1] > 1
        return None if colour else "needs more than one channel (the last number of PATCH_SIZE)"
    return None


def _interval(value: Any) -> list[Any]:
    """Return a range; a single number is one from 0."""
    return list(value) if isinstance(value, (list, tuple)) else [0.0, float(value)]


def _deformation(source: Source, on: bool, chance: float) -> dict[str, Any]:
    """Translate rotation, shear, zoom and elastic deformation, which are one step here."""
    steps = ("RANDOM_ROT", "SHEAR", "ZOOM", "ELASTIC")
    asked = {step: bool(source.take(f"AUGMENTOR.{step}", default=False)) for step in steps}
    turn = source.take("AUGMENTOR.RANDOM_ROT_RANGE", default=[-180, 180])
    shear = source.take("AUGMENTOR.SHEAR_RANGE", default=[-20, 20])
    zoom = source.take("AUGMENTOR.ZOOM_RANGE", default=[0.8, 1.2])
    if not (on and any(asked.values())):
        return {"probability": 0.0}
    if sum(asked.values()) > 1:
        source.remark(
            "AUGMENTOR",
            f"{', '.join(step for step in steps if asked[step])} are one step here, done together"
            f" in {chance:g} of the crops",
        )
    if asked["ELASTIC"]:
        source.remark("AUGMENTOR.ELASTIC", "jitter_sigma and control_point_spacing say how strong")
    return {
        "probability": chance,
        "rotation_min": float(turn[0]) if asked["RANDOM_ROT"] else 0.0,
        "rotation_max": float(turn[1]) if asked["RANDOM_ROT"] else 0.0,
        "shear": [float(angle) for angle in shear] if asked["SHEAR"] else [0.0, 0.0],
        "zoom": [float(factor) for factor in zoom] if asked["ZOOM"] else [1.0, 1.0],
        **({} if asked["ELASTIC"] else {"jitter_sigma": [0.0]}),
    }


def _mirrors(source: Source, on: bool) -> dict[str, Any]:
    """Translate flips and quarter turns."""
    flat = 1 if "3" in str(source.values.get("PROBLEM.NDIM", "2D")) else 0
    asked = {
        axis: bool(source.take(f"AUGMENTOR.{flag}", default=False))
        for flag, axis in (("ZFLIP", 0), ("VFLIP", flat), ("HFLIP", flat + 1))
        if flat or flag != "ZFLIP"
    }
    turned = bool(source.take("AUGMENTOR.ROT90", default=False)) and on
    mirror = sorted(axis for axis, wanted in asked.items() if wanted and on)
    plane = [flat, flat + 1]
    if turned:
        source.remark("AUGMENTOR.ROT90", "quarter turns are mirroring and swapping of y and x")
        mirror = sorted({*mirror, *plane})
    return {"mirror": mirror, "transpose": plane if turned else []}


def _contrast(source: Source, on: bool, chance: float) -> dict[str, Any]:
    bright = bool(source.take("AUGMENTOR.BRIGHTNESS", default=False)) and on
    contrast = bool(source.take("AUGMENTOR.CONTRAST", default=False)) and on
    shift = source.take("AUGMENTOR.BRIGHTNESS_FACTOR", default=[-0.1, 0.1])
    scale = source.take("AUGMENTOR.CONTRAST_FACTOR", default=[-0.1, 0.1])
    if not (bright or contrast):
        return {"probability": 0.0}
    return {
        "probability": chance,
        "shift": [float(v) for v in shift] if bright else [0.0, 0.0],
        "scale": [1 + float(v) for v in scale] if contrast else [1.0, 1.0],
    }

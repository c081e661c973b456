"""The rules of :mod:`instaseg.config.import_biapy`, one function for each section of the YAML.

Each takes the file's keys, says what is to be known about them, and returns keys by table.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from instaseg.config.import_biapy_augmentation import Tables, augmentation
from instaseg.config.import_biapy_channels import channels
from instaseg.config.import_biapy_decoding import voxel_size
from instaseg.config.import_biapy_postprocessing import repair
from instaseg.config.import_biapy_synapses import synapses
from instaseg.errors import ConfigError
from instaseg.io.pairing import FOLDER_PAIRS
from instaseg.models import shapes
from instaseg.models.config import ModelSettings

if TYPE_CHECKING:
    from instaseg.config.import_biapy import Source

Rule = Callable[["Source"], Tables]

_SEG = "PROBLEM.INSTANCE_SEG."


def problem(source: Source) -> Tables:
    """Translate ``PROBLEM``: which method, and how many axes."""
    kind = str(source.take("PROBLEM.TYPE", default="SEMANTIC_SEG")).upper().replace(" ", "_")
    ndim = 3 if "3" in str(source.take("PROBLEM.NDIM", default="2D")) else 2
    data: Tables = {"data": {"ndim": ndim}}
    if kind == "SEMANTIC_SEG":
        return {**data, **_semantic(source)}
    if kind != "INSTANCE_SEG":
        raise ConfigError(
            f"PROBLEM.TYPE: expected INSTANCE_SEG or SEMANTIC_SEG, found {kind}; this program has"
            " no such workflow"
        )
    if str(source.take(f"{_SEG}TYPE", default="regular")) == "synapses":
        return synapses(source, data)
    return channels(source, data)


def _semantic(source: Source) -> Tables:
    """Translate semantic segmentation: classes, what is ignored, loss."""
    classes = max(2, int(source.take("DATA.N_CLASSES", "MODEL.N_CLASSES", default=2)))
    method: dict[str, Any] = {"name": "semantic", "num_classes": classes}
    ignored = source.take("LOSS.IGNORE_INDEX", "LOSS.IGNORE_VALUES")
    old = source.take("PROBLEM.SEMANTIC_SEG.IGNORE_CLASS_ID", default=0)
    if isinstance(ignored, int) and not isinstance(ignored, bool) and ignored >= 0:
        method["ignore_index"] = ignored
    elif int(old) > 0:
        method["ignore_index"] = int(old)
    tables: Tables = {"method": method | _loss(source) | _class_weights(source, classes)}
    one_channel = source.take("DATA.TEST.ARGMAX_TO_OUTPUT")
    if one_channel is not None:
        output = "classes" if one_channel else "probabilities"
        tables["vote_instances"] = {"output": output}
    if classes == 2:
        source.remark(
            "DATA.N_CLASSES",
            'class 1 is where it is more probable than 0.5; vote_instances.threshold = "otsu" finds'
            " a threshold for each image, as for BiaPy's binarised images",
        )
    return tables


def _loss(source: Source) -> dict[str, float]:
    """Return the weights of cross entropy and Dice."""
    name = str(source.take("LOSS.TYPE", default="CE")).upper()
    weights = source.take("LOSS.WEIGHTS", default=[0.66, 0.34])
    entropy = "CE" in name.replace("DICE", "")
    if "DICE" in name:
        first, second = (float(weights[0]), float(weights[1])) if entropy else (0.0, 1.0)
        return {"ce_weight": first, "dice_weight": second}
    if name != "CE":
        source.remark("LOSS.TYPE", f"{name} is not available; cross entropy is taken")
    return {}


def _class_weights(source: Source, classes: int) -> dict[str, list[float]]:
    """Return the weights of classes, where they are given as numbers."""
    how = source.take("LOSS.CLASS_REBALANCE", default=False)
    weights = source.take("LOSS.CLASS_WEIGHTS", default=[])
    if str(how).lower() in ("false", "none"):
        return {}
    if str(how).lower() == "manual" and len(weights) == classes:
        return {"class_weights": [float(weight) for weight in weights]}
    source.remark(
        "LOSS.CLASS_REBALANCE",
        f"weights are not found by themselves; give {classes} numbers as method.class_weights, or"
        " draw rare classes more often ([training.sampling])",
    )
    return {}


def data(source: Source) -> Tables:
    """Translate ``DATA``: folders, channels, voxel size, validation, normalisation."""
    keys: dict[str, Any] = {}
    for role in ("TRAIN", "VAL", "TEST"):
        images = source.take(f"DATA.{role}.PATH")
        labels = source.take(f"DATA.{role}.GT_PATH", f"DATA.{role}.MASK_PATH")
        if images is not None:
            found = _folder(source, role, str(images), labels)
            keys[f"{role.lower()}_data"] = _absolute(source, role, found)
    patch = source.values.get("DATA.PATCH_SIZE")
    if isinstance(patch, list):
        keys["num_channels"] = int(patch[-1])
    spacing = voxel_size(source)
    if spacing:
        keys["voxel_size"] = spacing
    tables: Tables = {"data": keys}
    split = _split(source, keys)
    if split:
        tables["data.split"] = split
    tables["data.normalization"] = _normalization(source)
    tables["data.filters"] = _filters(source)
    return {name: table for name, table in tables.items() if table}


def _folder(source: Source, role: str, images: str, labels: Any) -> str:
    """Return the folder that holds a folder of images and one of labels."""
    first = PurePosixPath(images)
    if labels is None:
        return str(first)
    second = PurePosixPath(str(labels))
    if first == second or first.parent == second.parent:
        if first == second or (first.name, second.name) in FOLDER_PAIRS:
            return str(first if first == second else first.parent)
        source.remark(
            f"DATA.{role}.PATH",
            f"{first.name} and {second.name} must be called"
            f" {' or '.join(' and '.join(pair) for pair in FOLDER_PAIRS)}: rename them, or make"
            " links",
        )
        return str(first.parent)
    source.remark(
        f"DATA.{role}.PATH",
        "images and labels must lie in folders x and y beside each other: make links",
    )
    return str(first.parent)


def _absolute(source: Source, role: str, folder: str) -> str:
    """Return a folder as one that does not depend on where the result lies."""
    found = os.path.abspath(folder)
    if not os.path.isabs(folder):
        source.remark(
            f"DATA.{role}.PATH",
            f"is relative to the folder that BiaPy is run in, taken to be {os.getcwd()}; absolute"
            " here",
        )
    return found


def sampling(source: Source) -> Tables:
    """Translate where training patches are taken."""
    at_random = source.take("DATA.EXTRACT_RANDOM_PATCH", "DATA.TRAIN.EXTRACT_RANDOM_PATCH")
    mapped = source.take("DATA.PROBABILITY_MAP", "DATA.TRAIN.PROBABILITY_MAP", default=False)
    inside, outside = (
        float(source.take(f"DATA.{name}", f"DATA.TRAIN.{name}", default=default))
        for name, default in (("W_FOREGROUND", 0.94), ("W_BACKGROUND", 0.06))
    )
    if at_random and mapped:
        share = round(inside / (inside + outside), 6)
        shares = {"random": 0.0, "fg": share, "bg": round(1 - share, 6)}
        source.remark("DATA.PROBABILITY_MAP", "objects at the border count as foreground, too")
        keys = {f"probability_{name}": value for name, value in shares.items()}
        return {"training.sampling": {**keys, "balance": "voxels", "place": "centre"}}
    if at_random:
        return {"training.sampling": {"probability_random": 1.0, "probability_fg": 0.0}}
    if at_random is not None:
        source.remark(
            "DATA.EXTRACT_RANDOM_PATCH",
            "crops are drawn at random, half of them at objects, not from a grid; see"
            " [training.sampling]",
        )
    return {}


def _split(source: Source, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Translate what is held out of the training data for validation."""
    share = source.take("DATA.VAL.SPLIT_TRAIN", default=0.1)
    crossed = source.take("DATA.VAL.CROSS_VAL", default=False)
    folds = int(source.take("DATA.VAL.CROSS_VAL_NFOLD", default=5))
    fold = int(source.take("DATA.VAL.CROSS_VAL_FOLD", default=1))
    if crossed:
        return {"folds": folds, "fold": fold}
    # Without a folder for validation a part of the training data is taken, in all versions.
    from_train = source.take("DATA.VAL.FROM_TRAIN", default="val_data" not in keys)
    if not from_train or "train_data" not in keys:
        return {}
    parts = max(2, round(1 / float(share))) if share else 10
    source.remark(
        "DATA.VAL.SPLIT_TRAIN",
        f"whole images are held out, one of {parts}; there must be as many images",
    )
    return {"folds": parts}


def _normalization(source: Source) -> dict[str, Any]:
    prefix = "DATA.NORMALIZATION."
    kind = source.take(f"{prefix}TYPE")
    clipped = source.take(f"{prefix}PERC_CLIP.ENABLE", f"{prefix}PERC_CLIP", default=False)
    lower = source.take(f"{prefix}PERC_CLIP.LOWER_PERC", f"{prefix}PERC_LOWER")
    upper = source.take(f"{prefix}PERC_CLIP.UPPER_PERC", f"{prefix}PERC_UPPER")
    if clipped and lower not in (None, -1) and upper not in (None, -1):
        source.remark(f"{prefix}PERC_CLIP", "percentiles become 0 and 1; nothing is clipped")
        return {"kind": "percentile", "lower": float(lower), "upper": float(upper)}
    match kind:
        case None:
            source.remark(f"{prefix}TYPE", "not said; percentiles become 0 and 1, BiaPy has others")
            return {}
        case "zero_mean_unit_variance" | "custom":
            return {"kind": "mean_std"}
        case "div":
            source.remark(f"{prefix}TYPE", "div: the largest value of the image becomes 1")
            return {"kind": "min_max"}
        case "scale_range":
            return {"kind": "min_max"}
    source.remark(f"{prefix}TYPE", f"{kind} is not available; percentiles are taken")
    return {}


def _filters(source: Source) -> dict[str, Any]:
    """Translate filters of training samples: theirs say what is dropped, ours what is kept."""
    prefix = "DATA.TRAIN.FILTER_SAMPLES."
    enabled = source.take(f"{prefix}ENABLE", default=False)
    names, values, signs = (
        source.take(f"{prefix}{part}", default=[]) for part in ("PROPS", "VALUES", "SIGNS")
    )
    if not enabled:
        return {}
    found: dict[str, list[float]] = {}
    for group in zip(names, values, signs, strict=False):
        if len(group[0]) != 1 or group[0][0] not in ("foreground", "mean", "min", "max"):
            source.remark(f"{prefix}PROPS", f"{group[0]}: not available, or several at once")
            continue
        (name,), (value,), (sign,) = group
        low, high = (0.0, 1.0) if name == "foreground" else (-math.inf, math.inf)
        low, high = found.get(name, [low, high])
        found[name] = [float(value), high] if sign in ("lt", "le") else [low, float(value)]
    if found:
        source.remark(prefix[:-1], "whole images are left out, not patches")
    return found


_ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "silu")


def model(source: Source) -> Tables:
    """Translate ``MODEL`` and the size of patches."""
    ndim = 3 if "3" in str(source.values.get("PROBLEM.NDIM", "2D")) else 2
    name = str(source.take("MODEL.ARCHITECTURE", default="unet"))
    if name != "unet":
        source.remark("MODEL.ARCHITECTURE", f"{name} is not available; a U-Net of equal levels")
    fmaps = [int(n) for n in source.take("MODEL.FEATURE_MAPS", default=[16, 32, 64, 128, 256])]
    keys: dict[str, Any] = {
        "num_fmaps": fmaps[0],
        "fmap_inc_factors": [b / a for a, b in itertools.pairwise(fmaps)],
        "downsample_factors": _factors(source, len(fmaps) - 1, ndim),
        "padding": "same",
        "normalization": _batch_or_none(source),
    }
    activation = str(source.take("MODEL.ACTIVATION", default="elu")).lower()
    if activation in _ACTIVATIONS:
        keys["activation"] = activation
    else:
        source.remark("MODEL.ACTIVATION", f"{activation} is not available; relu is taken")
    repetitions = source.take("MODEL.CONV_LAYERS")
    if isinstance(repetitions, list) and len(set(repetitions)) == 1:
        keys["num_repetitions"] = int(repetitions[0])
    elif repetitions is not None:
        source.remark("MODEL.CONV_LAYERS", "all levels have the same number here; 2 are taken")
    return {"model": keys | _tile_shapes(source, keys, ndim)}


def _factors(source: Source, levels: int, ndim: int) -> list[list[int]]:
    """Return the reduction of each level."""
    down = source.take("MODEL.Z_DOWN", default=0)
    plane = source.take("MODEL.YX_DOWN", default=0)

    def at(value: Any, level: int) -> int:
        found = value[level] if isinstance(value, list) and level < len(value) else value
        return int(found) if isinstance(found, int) and found > 0 else 2

    z = [[at(down, level)] if ndim == 3 else [] for level in range(levels)]
    return [[*z[level], at(plane, level), at(plane, level)] for level in range(levels)]


def _batch_or_none(source: Source) -> str:
    kind = str(source.take("MODEL.NORMALIZATION", default="bn")).lower()
    if kind not in ("bn", "none"):
        source.remark("MODEL.NORMALIZATION", f"{kind} is not available; batch is taken")
    return "none" if kind == "none" else "batch"


def _tile_shapes(source: Source, keys: Mapping[str, Any], ndim: int) -> dict[str, Any]:
    """Return the shapes the network reads: the patch, and tiles that are not mostly halo."""
    patch = source.take("DATA.PATCH_SIZE", default=[256] * ndim + [1])
    wanted = [int(n) for n in patch[:-1]]
    if len(wanted) != ndim:
        raise ConfigError(
            f"DATA.PATCH_SIZE: expected {ndim} sides and the number of channels because"
            f" PROBLEM.NDIM is {ndim}D, found {patch}; mend it"
        )
    settings = ModelSettings().model_copy(
        update={
            "downsample_factors": tuple(map(tuple, keys["downsample_factors"])),
            "num_repetitions": keys.get("num_repetitions", 2),
            "padding": "same",
            "train_input_shape": tuple(wanted),
        }
    )
    fitting = shapes.input_shape_at_least(settings, wanted)
    if list(fitting) != wanted:
        source.remark("DATA.PATCH_SIZE", f"{list(fitting)} is the next that fits the levels")
    around = [n + 2 * reach for n, reach in zip(fitting, shapes.halo(settings), strict=True)]
    return {
        "train_input_shape": list(fitting),
        "test_input_shape": list(shapes.input_shape_at_least(settings, around)),
    }


def training(source: Source) -> Tables:
    """Translate ``TRAIN``: optimizer, batches, course of the learning rate, patience."""
    optimizer = str(source.take("TRAIN.OPTIMIZER", default="SGD")).upper()
    known = {"SGD": "SGD", "ADAM": "Adam", "ADAMW": "AdamW"}
    if optimizer not in known:
        source.remark("TRAIN.OPTIMIZER", f"{optimizer} is not available; AdamW is taken")
    rule = {
        "optimizer": known.get(optimizer, "AdamW"),
        "lr": _first(source.take("TRAIN.LR", default=1e-4)),
        "weight_decay": _first(source.take("TRAIN.W_DECAY", default=0.02)),
    }
    keys: dict[str, Any] = {"batch_size": int(source.take("TRAIN.BATCH_SIZE", default=2))}
    epochs = int(source.take("TRAIN.EPOCHS", default=360))
    source.remark(
        "TRAIN.EPOCHS",
        f"training counts iterations: set training.max_iterations to {epochs} times the patches of"
        " the training images divided by the batch size, or training.max_minutes",
    )
    patience = int(source.take("TRAIN.PATIENCE", default=-1))
    if patience > 0:
        keys["patience"] = patience
        source.remark(
            "TRAIN.PATIENCE", "counts evaluations of the validation loss (training.val_log_step)"
        )
    source.take("TRAIN.ENABLE", "TEST.ENABLE", "TEST.EVALUATE", "TEST.VERBOSE")
    return {"training": keys | _schedule(source, epochs), "optimizer": rule}


def _first(value: Any) -> float:
    """Return a number, or the first of a list with one for each network."""
    return float(value[0] if isinstance(value, list) else value)


def _schedule(source: Source, epochs: int) -> dict[str, Any]:
    prefix = "TRAIN.LR_SCHEDULER."
    name = str(source.take(f"{prefix}NAME", default=""))
    warm = source.take(f"{prefix}WARMUP_COSINE_DECAY_EPOCHS", default=0)
    if not name:
        return {"schedule": "constant"}
    if name == "warmupcosine":
        return {"schedule": "cosine", "warmup": min(0.5, max(0, int(warm)) / epochs)}
    if name == "onecycle":
        return {"schedule": "one_cycle", "warmup": 0.3}
    if name in ("reduceonplateau", "warmupreduceonplateau"):
        waits = int(source.take(f"{prefix}REDUCEONPLATEAU_PATIENCE", default=-1))
        factor = float(source.take(f"{prefix}REDUCEONPLATEAU_FACTOR", default=0.5))
        waiting = {"plateau_patience": waits} if waits > 0 else {}
        return {"schedule": "plateau", "plateau_factor": factor, **waiting}
    source.remark(f"{prefix}NAME", f"{name} is not available; cosine is taken")
    return {}


def prediction(source: Source) -> Tables:
    """Translate ``TEST``: test-time augmentation."""
    keys: dict[str, Any] = {}
    if source.take("TEST.AUGMENTATION", default=False):
        keys["symmetries"] = "flips_and_rotations"
        mode = str(source.take("TEST.AUGMENTATION_MODE", default="mean"))
        keys["symmetries_mode"] = mode if mode in ("mean", "min", "max") else "mean"
    return {"prediction": keys} if keys else {}


SECTIONS: tuple[Rule, ...] = (
    *(problem, data, sampling, model),
    *(training, augmentation, prediction, repair),
)
"""The rules, in the order of the result's tables."""

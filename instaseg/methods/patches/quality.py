"""Quality of predictions themselves: patches, counts and foreground against the ground truth.

Compared are the patches of voxels with exactly one instance, since assembly uses no others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.io.quantise import dequantise
from instaseg.methods.base import Decode
from instaseg.methods.patches.offsets import window
from instaseg.methods.quality import RATIOS, compare, instance_channels, ratios
from instaseg.metrics.config import threshold_key

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Probabilities above which a voxel belongs to a predicted patch."""
# Patch values that are compared at once.
_MOST_VALUES = 1 << 24


def quality_names(max_num_inst: int | None) -> tuple[str, ...]:
    """Return the dotted names of all scores, those of counts only where counts are predicted.

    Parameters
    ----------
    max_num_inst : int, optional
        Largest count the network predicts; None without a count head.
    """
    names = [f"patch.{threshold_key(t)}.{name}" for t in THRESHOLDS for name in RATIOS]
    names += [f"foreground.{name}" for name in RATIOS]
    if max_num_inst is not None:
        names += ["count.accuracy", *(f"count.accuracy_{n}" for n in range(max_num_inst + 1))]
    return tuple(names)


def true_patches(
    channels: NDArray[Any], sites: Sequence[NDArray[np.int64]], patch_shape: Sequence[int]
) -> NDArray[np.bool_]:
    """Return the true patches of voxels with exactly one instance.

    Parameters
    ----------
    channels : (n, [z,] y, x) integer or bool
        Labels, or one channel per instance; no two instances of a channel overlap.
    sites : sequence of (N,) int64
        Index per axis of every voxel.
    patch_shape : sequence of int
        Odd sides in voxels.

    Returns
    -------
    (K, N) bool
        Voxels of a patch in raster order; outside the image False.
    """
    ndim = len(patch_shape)
    reach = [side // 2 for side in patch_shape]
    padded = np.pad(channels, [(0, 0), *((r, r) for r in reach)])
    every: Any = slice(None)  # numpy's types have no mixed index
    values = channels[(every, *sites)]
    owner = np.argmax(values != 0, axis=0)
    own = values[owner, np.arange(values.shape[1])]
    offsets = window(tuple(patch_shape)).offsets()[:, 3 - ndim :]
    rows = np.empty((len(offsets), len(own)), bool)
    for row, offset in zip(rows, offsets, strict=True):
        place = tuple(s + r + o for s, r, o in zip(sites, reach, offset, strict=True))
        row[:] = padded[(owner, *place)] == own
    return rows


def patch_quality(
    prediction: NDArray[Any],
    channels: NDArray[Any],
    chosen: NDArray[np.bool_],
    *,
    patch_shape: Sequence[int],
    decode: Decode | None = None,
) -> dict[str, float]:
    """Return the ratios of predicted against true patches for every threshold.

    Parameters
    ----------
    prediction : (K, [z,] y, x) or (units, [z,] y, x)
        Patches or codes as stored, without margin.
    channels : (n, [z,] y, x)
        Ground truth.
    chosen : ([z,] y, x) bool
        Voxels whose patches are compared; each has exactly one instance.
    patch_shape : sequence of int
        Odd sides in voxels.
    decode : callable, optional
        Turns codes into patches; None where `prediction` has patches.

    Returns
    -------
    dict
        By dotted name, such as ``patch.th_0_5.IoU``.
    """
    every: Any = slice(None)
    counts = np.zeros((len(THRESHOLDS), 3), np.int64)
    for sites in _parts(np.nonzero(chosen), int(np.prod(patch_shape))):
        rows = prediction[(every, *sites)]
        probabilities = dequantise(rows) if decode is None else decode(rows)
        true = true_patches(channels, sites, patch_shape)
        counts += np.stack([compare(probabilities > t, true) for t in THRESHOLDS])
    return {
        f"patch.{threshold_key(t)}.{name}": value
        for t, of_one in zip(THRESHOLDS, counts.tolist(), strict=True)
        for name, value in ratios(*of_one).items()
    }


def _parts(
    sites: tuple[NDArray[np.int64], ...], values: int
) -> Iterator[tuple[NDArray[np.int64], ...]]:
    """Yield voxels in parts of about 16 million patch values."""
    step = max(1, _MOST_VALUES // values)
    for start in range(0, len(sites[0]), step):
        yield tuple(axis[start : start + step] for axis in sites)


def count_quality(
    probabilities: NDArray[np.float32], count: NDArray[Any], known: NDArray[np.bool_]
) -> dict[str, float]:
    """Return the share of voxels whose number of instances is right, of all and per number.

    Parameters
    ----------
    probabilities : (C, [z,] y, x)
        Of 0, 1 ... C - 1 instances; the last one stands for more, too.
    count : ([z,] y, x) integer
        True number of instances.
    known : ([z,] y, x) bool
        Where labels are complete.

    Returns
    -------
    dict
        ``count.accuracy`` and ``count.accuracy_<number>``; left out where no voxel has that many.
    """
    true = np.minimum(count, len(probabilities) - 1)[known]
    right = np.argmax(probabilities, axis=0)[known] == true
    scores = {"count.accuracy": float(right.mean())} if right.size else {}
    for number in np.unique(true).tolist():
        scores[f"count.accuracy_{number}"] = float(right[true == number].mean())
    return scores


def foreground_quality(
    foreground: NDArray[np.bool_], count: NDArray[Any], known: NDArray[np.bool_]
) -> dict[str, float]:
    """Return the ratios of predicted against true foreground where labels are complete."""
    hits, wrong, missed = compare(foreground & known, (count > 0) & known).tolist()
    return {f"foreground.{name}": v for name, v in ratios(hits, wrong, missed).items()}


def quality(
    prediction: Mapping[str, NDArray[Any]],
    truth: NDArray[Any],
    mask: NDArray[Any] | None,
    *,
    patch_shape: Sequence[int],
    decode: Decode | None = None,
) -> dict[str, float]:
    """Return all scores of one sample's prediction.

    Parameters
    ----------
    prediction : mapping of str to ndarray
        Heads by name as stored, without margin: ``affs`` or ``code``; ``numinst`` or ``fgbg``, or
        neither, where a patch's centre is the foreground.
    truth : ndarray, ([z,] y, x) or (n, [z,] y, x)
        Labels or instance channels.
    mask : ndarray, ([z,] y, x), optional
        Not 0 where labels are complete; background elsewhere is not counted.
    patch_shape : sequence of int
        Odd sides in voxels.
    decode : callable, optional
        Needed for ``code``.

    Returns
    -------
    dict
        By dotted name; see :func:`quality_names`.
    """
    channels = instance_channels(truth, len(patch_shape))
    count = np.count_nonzero(channels, axis=0)
    known = (count > 0) | (mask != 0) if mask is not None else np.ones(count.shape, bool)
    patches = prediction["code" if decode else "affs"]
    scores = patch_quality(patches, channels, count == 1, patch_shape=patch_shape, decode=decode)
    if "numinst" in prediction:
        numbers = dequantise(prediction["numinst"])
        foreground = numbers[0] <= 0.5
        scores |= count_quality(numbers, count, known)
    else:
        head = prediction["fgbg"][0] if "fgbg" in prediction else patches[len(patches) // 2]
        foreground = dequantise(head) > 0.5
    return scores | foreground_quality(foreground, count, known)

"""Samples left out of the training by what their images and labels look like."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from instaseg.data.config import FilterSettings
from instaseg.errors import DataError
from instaseg.io.arrays import slabs
from instaseg.io.samples import Sample


def filtered(
    samples: Sequence[Sample], settings: FilterSettings
) -> tuple[tuple[Sample, ...], list[str]]:
    """Return the samples all of whose values lie in their ranges, and why others are left out.

    Parameters
    ----------
    samples : sequence of Sample
        With labels, where there is a range of foreground; read slab by slab, if there is any range.
    settings : FilterSettings
        Ranges, both ends included.

    Returns
    -------
    tuple of Sample, list of str
        In their order; one line for each sample that is left out.

    Raises
    ------
    DataError
        If none is left, or an array is missing or damaged.
    """
    ranges: dict[str, tuple[float, float]] = {
        name: wanted
        for name in FilterSettings.model_fields
        if (wanted := getattr(settings, name)) is not None
    }
    if not ranges:
        return tuple(samples), []
    kept, left_out = [], []
    for sample in samples:
        values = image_values(sample) if set(ranges) != {"foreground"} else {}
        if "foreground" in ranges:
            values["foreground"] = foreground_share(sample)
        wrong = [
            f"{name} {values[name]:g} outside of [{low:g}, {high:g}]"
            for name, (low, high) in ranges.items()
            if not low <= values[name] <= high
        ]
        if wrong:
            left_out.append(f"{sample.name}: {', '.join(wrong)}")
        else:
            kept.append(sample)
    if not kept:
        listed = "; ".join(left_out[:5])
        raise DataError(
            f"[data.filters]: expected ranges that keep some samples, found that all {len(samples)}"
            f" are left out ({listed}); widen them"
        )
    return tuple(kept), left_out


def image_values(sample: Sample) -> dict[str, float]:
    """Return mean, standard deviation, least and greatest value of an image, over all channels."""
    raw = sample.open_raw()
    low, high, count, total, squares = math.inf, -math.inf, 0, 0.0, 0.0
    for index in slabs(raw.shape[1:]):
        block = raw[(slice(0, raw.shape[0]), *index)].astype(np.float64)
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        count += block.size
        total += float(block.sum())
        squares += float(np.square(block).sum())
    mean = total / count
    return {
        "mean": mean,
        "min": low,
        "max": high,
        "std": math.sqrt(max(0.0, squares / count - mean**2)),
    }


def foreground_share(sample: Sample) -> float:
    """Return the share of voxels that belong to an instance; 0 without labels."""
    labels = sample.open_labels()
    if labels is None:
        return 0.0
    space = labels.shape[len(labels.shape) - sample.ndim :]
    lead = tuple(slice(0, n) for n in labels.shape[: len(labels.shape) - sample.ndim])
    found = 0
    for index in slabs(space):
        block = labels[(*lead, *index)] != 0
        found += int(np.count_nonzero(block.any(axis=0) if lead else block))
    return found / math.prod(space)

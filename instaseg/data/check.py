"""The check of a data set before any work: all that is wrong, in one message."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from instaseg.data.config import DataSettings
from instaseg.errors import DataError
from instaseg.io.arrays import Reader, missing_key, slabs
from instaseg.io.samples import Sample

logger = logging.getLogger(__name__)

_MOST_LINES = 50
_FLAT = "has the same value everywhere; expected one with contrast"


def check_samples(
    samples: Sequence[Sample],
    settings: DataSettings,
    *,
    labels: Literal["required", "optional"],
    least_shape: Sequence[int],
) -> None:
    """Check that samples can be trained on, or predicted and scored.

    Every array is read once, in slabs of 16 million voxels.

    Parameters
    ----------
    samples : sequence of Sample
        From :func:`instaseg.io.samples.find_samples`.
    settings : DataSettings
        Keys and axes, for messages.
    labels : {"required", "optional"}
        ``required`` for training and validation, ``optional`` for data that is only segmented.
    least_shape : sequence of int
        Least extent of an image in voxels, per spatial axis.

    Raises
    ------
    DataError
        With one line for each thing that is wrong, naming the sample.

    Notes
    -----
    Refused: images or labels that are missing, damaged, or of other axes, channels or shapes than
    expected; images with NaN or infinite values; labels that are negative or not integers; images
    smaller than `least_shape`. Where labels are required also images without any contrast, which
    otherwise are logged as a warning, and labels without any instance.
    """
    faults = [
        f"{sample.name}: {fault}"
        for sample in samples
        for fault in _faults(sample, settings, labels, tuple(least_shape))
    ]
    if not faults:
        return
    shown = "".join(f"\n  - {fault}" for fault in faults[:_MOST_LINES])
    more = f"\n  - and {len(faults) - _MOST_LINES} more" if len(faults) > _MOST_LINES else ""
    folder = samples[0].raw.path.parent
    counts = f"{_count(len(faults), 'fault')} in {_count(len(samples), 'sample')}"
    raise DataError(f"{folder}: {counts}:{shown}{more}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _faults(
    sample: Sample,
    settings: DataSettings,
    labels: Literal["required", "optional"],
    least_shape: tuple[int, ...],
) -> Iterator[str]:
    """Yield what is wrong with one sample."""
    shape: tuple[int, ...] | None = None
    try:
        raw = sample.open_raw()
        shape = raw.shape[1:]
        yield from _shape_faults(shape, least_shape)
        broken, contrast = _measure(raw)
        if broken:
            yield broken
        elif not contrast and labels == "required":
            yield f"image {_FLAT}. Leave it out, or export it again"
        elif not contrast:
            logger.warning("%s: image %s; nothing can be found in it", sample.name, _FLAT)
    except DataError as error:
        yield _without_name(error, sample)
    if sample.labels is None:
        if labels == "required":
            yield _no_labels(sample, settings)
        return
    for source, opened, name in (
        (sample.labels, sample.open_labels, "labels"),
        (sample.mask, sample.open_mask, "mask"),
    ):
        if source is None:
            continue
        try:
            reader = opened()
            if reader is None:
                continue
            if shape is not None and reader.shape != shape:
                yield (
                    f"{source} has shape {reader.shape}, the image {shape}; expected the same."
                    f" Check that image and {name} belong together"
                )
            if name == "labels":
                yield from _label_faults(reader, labels)
        except DataError as error:
            yield _without_name(error, sample)


def _without_name(error: DataError, sample: Sample) -> str:
    """Return a message without the name of the sample, which begins the line already."""
    return str(error).removeprefix(f"sample {sample.name}: ")


def _no_labels(sample: Sample, settings: DataSettings) -> str:
    """Return the message for a sample that has no labels."""
    if sample.raw.key:
        return f"{missing_key(sample.raw.path, settings.gt_key)} (data.gt_key names the labels)"
    return (
        f"{sample.raw.path} has no labels; expected a file of the same name in a folder y/ beside"
        " x/, or masks/ beside images/"
    )


def _shape_faults(shape: tuple[int, ...], least_shape: tuple[int, ...]) -> Iterator[str]:
    """Yield a fault if the image is too small."""
    if any(n < least for n, least in zip(shape, least_shape, strict=True)):
        yield (
            f"image of shape {shape} is smaller than {least_shape}, what the method looks at around"
            " a voxel; leave it out, or choose a smaller method.patch_shape"
        )


def _measure(raw: Reader) -> tuple[str, bool]:
    """Return a fault in the values of an image, empty if there is none, and if it has contrast."""
    if not _is_number(raw.dtype):
        return (
            f"image is {raw.dtype}; expected integers or floating point numbers. Convert it",
            True,
        )
    lowest, highest, broken = np.inf, -np.inf, 0
    for index in slabs(raw.shape[1:]):
        block = raw[(slice(0, raw.shape[0]), *index)]
        broken += int(block.size - np.count_nonzero(np.isfinite(block)))
        lowest, highest = min(lowest, block.min()), max(highest, block.max())
    if broken:
        return (
            f"image has {broken} voxels that are NaN or infinite; expected finite numbers. Replace"
            " them, or leave the image out",
            True,
        )
    return "", bool(highest > lowest)


def _is_number(dtype: np.dtype[Any]) -> bool:
    """Return whether values are real numbers."""
    return np.issubdtype(dtype, np.integer) or np.issubdtype(dtype, np.floating)


def _label_faults(labels: Reader, needed: Literal["required", "optional"]) -> Iterator[str]:
    """Yield faults in the values of labels; whole numbers stored as floats are refused too."""
    if not np.issubdtype(labels.dtype, np.integer):
        yield (
            f"labels are {labels.dtype}; expected integers, 0 for background and one number per"
            f" instance. {_float_advice(labels)}"
        )
        return
    lowest, highest = 0, 0
    for index in slabs(labels.shape):
        block = labels[index]
        lowest, highest = min(lowest, int(block.min())), max(highest, int(block.max()))
    if lowest < 0:
        yield (
            f"labels go down to {lowest}; expected 0 for background and positive numbers. Set what"
            " should be ignored to 0, or mark it in an array named by data.mask_key"
        )
    if highest <= 0 and lowest == 0 and needed == "required":
        yield (
            "labels are 0 everywhere; expected at least one instance. Leave the sample out, or add"
            " its labels"
        )


def _float_advice(labels: Reader) -> str:
    """Return what to do about labels of another type."""
    if labels.dtype == np.bool_:
        return "This is a mask: label its components first, for example with skimage.measure.label"
    for index in slabs(labels.shape):
        block: NDArray[Any] = labels[index]
        if not np.array_equal(block, np.round(block)):
            return "They have fractions, so this may be a probability map: export the labels"
    return "They are whole numbers: convert them, for example with astype('uint16')"

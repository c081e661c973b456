"""The check of a data set before any work: all that is wrong, in one message."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import fastremap
import numpy as np
from numpy.typing import NDArray

from instaseg.data.classes import WHITE, ClassMap
from instaseg.data.config import AugmentationSettings, DataSettings
from instaseg.errors import ConfigError, DataError
from instaseg.io import cremi
from instaseg.io.arrays import Reader, missing_key, slabs
from instaseg.io.samples import Sample

logger = logging.getLogger(__name__)

TruthFaults = Callable[[Sample, Literal["required", "optional"]], Iterator[str]]
"""Yields what is wrong with the values of a sample's ground truth; the array itself is opened and
of the image's shape."""

_MOST_LINES = 50
_FLAT = "has the same value everywhere; expected one with contrast"


Overlaps = Literal["may_overlap", "apart_to_learn", "apart_to_score"]
"""Whether true instances may overlap, and why not."""

_WHY_APART = {
    "apart_to_learn": "overlapping ground truth needs the method patches with method.foreground ="
    " 'count'. Set it, or name labels that do not overlap with data.gt_key",
    "apart_to_score": "scores of boundaries have no meaning there. Set evaluation.boundaries ="
    " 'skip', or name labels that do not overlap with data.gt_key",
}


def check_samples(
    samples: Sequence[Sample],
    settings: DataSettings,
    *,
    labels: Literal["required", "optional"],
    least_shape: Sequence[int],
    instances: Overlaps = "may_overlap",
    truth_faults: TruthFaults | None = None,
    instance_classes: int = 0,
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
    instances : {"may_overlap", "apart_to_learn", "apart_to_score"}
        Samples whose instances overlap are refused where a method is trained that cannot tell how
        many instances are on a voxel, and where boundaries are scored.
    truth_faults : callable, optional
        Checks the values of ground truth that is not instances, in place of the check of those.
    instance_classes : int
        Classes that labelled instances have; 0 for none.

    Raises
    ------
    DataError
        With one line for each thing that is wrong, naming the sample.

    Notes
    -----
    Refused: images or labels that are missing, damaged, or of other axes, channels or shapes than
    expected; images with NaN or infinite values; labels that are negative or not integers; images
    smaller than `least_shape`; instance channels that are empty or equal. Where labels are required
    also images without any contrast, which otherwise are logged as a warning, and labels without
    any instance.
    """
    _warn_of_no_mask(samples, settings)
    find_faults = truth_faults or partial(instance_truth_faults, overlaps=instances)
    faults = [
        f"{sample.name}: {fault}"
        for sample in samples
        for fault in (
            *_faults(sample, settings, labels, tuple(least_shape)),
            *_truth_faults(sample, labels, find_faults),
            *instance_class_faults(sample, settings, instance_classes),
        )
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
        (sample.classes, sample.open_classes, "classes"),
    ):
        if source is None or (name == "labels" and sample.truth == "points"):
            continue
        try:
            reader = opened()
            if reader is None:
                continue
            space = reader.shape[len(reader.shape) - sample.ndim :]
            if shape is not None and space != shape:
                yield (
                    f"{source} has shape {reader.shape}, the image {shape}; expected the same."
                    f" Check that image and {name} belong together"
                )
        except DataError as error:
            yield _without_name(error, sample)


def _truth_faults(
    sample: Sample, labels: Literal["required", "optional"], find_faults: TruthFaults
) -> Iterator[str]:
    """Yield what is wrong with the values of the ground truth, where there is one."""
    try:
        if sample.labels is None or (sample.truth != "points" and sample.open_labels() is None):
            return
    except DataError:
        return  # listed already
    try:
        yield from find_faults(sample, labels)
    except DataError as error:
        yield _without_name(error, sample)


def instance_truth_faults(
    sample: Sample,
    needed: Literal["required", "optional"],
    overlaps: Overlaps,
) -> Iterator[str]:
    """Yield what is wrong with the values of instances.

    Parameters
    ----------
    sample : Sample
        With ground truth.
    needed : {"required", "optional"}
        Whether something has to be labelled.
    overlaps : {"may_overlap", "apart_to_learn", "apart_to_score"}
        Whether instances may overlap.
    """
    reader = sample.open_labels()
    assert reader is not None
    if sample.truth == "instances":
        yield from _instance_faults(reader, needed, overlaps)
    else:
        yield from _label_faults(reader, needed)


def instance_class_faults(sample: Sample, settings: DataSettings, count: int) -> Iterator[str]:
    """Yield what is wrong with the classes of instances, where there are instances.

    Parameters
    ----------
    sample : Sample
        The image.
    settings : DataSettings
        Keys, for messages.
    count : int
        Number of classes; nothing is wrong where it is 0.
    """
    if sample.labels is None or count == 0:
        return
    try:
        classes = sample.open_classes()
    except DataError:
        return  # listed already
    if classes is None:
        where = (
            f"an array {settings.class_key!r} (data.class_key)"
            if sample.raw.key
            else 'labels of two channels (data.label_channels = "labels_and_classes")'
        )
        yield (
            f"{sample.raw.path} has no classes of its instances; expected {where}, because"
            f" method.instance_classes.count = {count}. Add them, or set count = 0"
        )
        return
    if not np.issubdtype(classes.dtype, np.integer):
        yield (
            f"classes of instances are {classes.dtype}; expected integers, 0 where none is known."
            f" {_float_advice(classes)}"
        )
        return
    strangers = [value for value in _values(classes) if not 0 <= value <= count]
    if strangers:
        more = f" and {len(strangers) - 5} more" if len(strangers) > 5 else ""
        yield (
            f"classes of instances have the value {', '.join(map(str, strangers[:5]))}{more};"
            f" expected 1 to {count} and 0 where none is known, because"
            f" method.instance_classes.count = {count}. Set count, or what has no class to 0"
        )


def _values(reader: Reader) -> list[int]:
    """Return the values of an array of integers, each once, sorted."""
    found: set[int] = set()
    for index in slabs(reader.shape):
        found.update(fastremap.unique(reader[index].astype(np.int64)).tolist())
    return sorted(found)


def class_faults(sample: Sample, class_map: ClassMap) -> Iterator[str]:
    """Yield what is wrong with the values of a mask of classes.

    Parameters
    ----------
    sample : Sample
        With ground truth.
    class_map : ClassMap
        What its values should mean.
    """
    reader = sample.open_labels()
    assert reader is not None
    if class_map.objects == "classes" and sample.truth == "instances":
        yield (
            f"{sample.labels} has one channel per instance; expected one class per voxel in"
            ' data.gt_key. Set method.objects = "instances" if all instances are of class 1'
        )
        return
    if not (np.issubdtype(reader.dtype, np.integer) or reader.dtype == np.bool_):
        yield (
            f"mask is {reader.dtype}; expected integers, 0 for background and one number per class."
            f" {_float_advice(reader)}"
        )
        return
    strangers = class_map.strangers(np.array(_values(reader)))
    if strangers:
        ignored = "" if class_map.ignore is None else f" or {class_map.ignore}, which is ignored,"
        white = " (or 0 and 255)" if class_map.white_is_one else ""
        more = f" and {len(strangers) - 5} more" if len(strangers) > 5 else ""
        yield (
            f"mask has the value {', '.join(map(str, strangers[:5]))}{more}; expected classes 0 to"
            f" {class_map.num_classes - 1}{white}{ignored} because method.num_classes ="
            f" {class_map.num_classes}. {_class_advice(strangers)}"
        )


def _class_advice(strangers: Sequence[int]) -> str:
    """Return what to do about values that are no classes."""
    if list(strangers) == [WHITE]:
        return f"Set method.ignore_index = {WHITE} if these voxels have no class"
    return (
        "Set method.num_classes, method.ignore_index for voxels without a class, or"
        ' method.objects = "instances" if these are labels of instances'
    )


def _warn_of_no_mask(samples: Sequence[Sample], settings: DataSettings) -> None:
    """Warn where a mask is configured that no sample has: the key may be misspelt."""
    if settings.mask_key and all(sample.mask is None for sample in samples):
        logger.warning(
            "%s: no sample has the array %r (data.mask_key); labels count as complete",
            samples[0].raw.path.parent,
            settings.mask_key,
        )


def _without_name(error: DataError, sample: Sample) -> str:
    """Return a message without the name of the sample, which begins the line already."""
    return str(error).removeprefix(f"sample {sample.name}: ")


def _no_labels(sample: Sample, settings: DataSettings) -> str:
    """Return the message for a sample that has no labels."""
    if sample.truth == "points":
        return (
            f"{sample.raw.path} has no sites of synapses; expected an array"
            f" {settings.points_key!r} (data.points_key), or an HDF5 file with"
            f" {cremi.LOCATIONS!r} as CREMI has it. Run the app's prepare.py, or add them"
        )
    if sample.raw.key:
        return (
            f"{missing_key(sample.raw.path, settings.gt_key)} (data.gt_key names the labels;"
            f" overlapping instances would be in {settings.instances_key!r}, data.instances_key)"
        )
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


@dataclass(frozen=True)
class _Channels:
    """What instance channels hold.

    Parameters
    ----------
    empty : list of int
        Channels that are 0 everywhere.
    equal : list of (int, int)
        Channels with the same voxels as an earlier one, which comes first.
    lowest : int
        Least value.
    most : int
        Greatest number of instances on a voxel.
    """

    empty: list[int]
    equal: list[tuple[int, int]]
    lowest: int
    most: int


def _look_at_channels(instances: Reader) -> _Channels:
    """Read instance channels ``(n, [z,] y, x)`` once, slab by slab and channel by channel."""
    count = instances.shape[0]
    # Equal channels are found by digests of their voxels, so that no two are held at once.
    digests = [hashlib.blake2b(digest_size=16) for _ in range(count)]
    voxels, lowest, most = [0] * count, 0, 0
    for index in slabs(instances.shape[1:]):
        together = np.zeros([s.stop - s.start for s in index], dtype=np.uint16)
        for channel in range(count):
            block = instances[(slice(channel, channel + 1), *index)][0]
            inside = block != 0
            voxels[channel] += int(np.count_nonzero(inside))
            digests[channel].update(np.packbits(inside).tobytes())
            together += inside
            lowest = min(lowest, int(block.min()))
        most = max(most, int(together.max()))
    first: dict[bytes, int] = {}
    equal = []
    for channel in range(count):
        twin = first.setdefault(digests[channel].digest(), channel)
        if twin != channel and voxels[channel]:
            equal.append((twin, channel))
    return _Channels([c for c in range(count) if not voxels[c]], equal, lowest, most)


def _instance_faults(
    instances: Reader,
    needed: Literal["required", "optional"],
    overlaps: Overlaps,
) -> Iterator[str]:
    """Yield faults in the values of instance channels."""
    if not (np.issubdtype(instances.dtype, np.integer) or instances.dtype == np.bool_):
        yield (
            f"instances are {instances.dtype}; expected integers or booleans, one channel per"
            " instance, not 0 inside. Convert them, for example with astype('uint8')"
        )
        return
    if instances.shape[0] == 0:
        if needed == "required":
            yield (
                "instances have no channels; expected at least one instance. Leave the sample out,"
                " or add its instances"
            )
        return
    found = _look_at_channels(instances)
    if found.lowest < 0:
        yield (
            f"instances go down to {found.lowest}; expected 0 outside of an instance. Set what"
            " should be ignored to 0, or mark it in an array named by data.mask_key"
        )
    if found.empty:
        yield (
            f"instance {_named(found.empty)} 0 everywhere; expected something in every channel."
            " Remove what is empty"
        )
    if found.equal:
        pairs = ", ".join(f"{a} and {b}" for a, b in found.equal[:10])
        yield (
            f"instance channels {pairs} have the same voxels; expected each instance once. Remove"
            " one of the two"
        )
    if overlaps != "may_overlap" and found.most > 1:
        yield f"instances overlap, up to {found.most} on a voxel; {_WHY_APART[overlaps]}"


def _named(channels: list[int]) -> str:
    """Return numbers of channels in words, with the verb."""
    if len(channels) == 1:
        return f"channel {channels[0]} is"
    more = f" and {len(channels) - 10} more" if len(channels) > 10 else ""
    return f"channels {', '.join(map(str, channels[:10]))}{more} are"


def check_augmentation(
    augmentation: AugmentationSettings,
    settings: DataSettings,
    *,
    instances: Literal["may_overlap", "separate", "none"],
) -> None:
    """Check that augmentations fit the channels of the images, and the method.

    Parameters
    ----------
    augmentation : AugmentationSettings
        What is checked.
    settings : DataSettings
        Number of channels and axes.
    instances : {"may_overlap", "separate", "none"}
        Whether the method can tell how many instances are on a voxel, or knows none.

    Raises
    ------
    ConfigError
        If hue is turned in images that are not RGB, a single channel is to be permuted, axes or
        sections are changed that images have not, or crops are laid over each other for a method
        that keeps instances apart; a line for each.
    """
    faults = list(_augmentation_faults(augmentation, settings, instances))
    if faults:
        raise ConfigError("\n".join(faults))


def _augmentation_faults(
    augmentation: AugmentationSettings,
    settings: DataSettings,
    instances: Literal["may_overlap", "separate", "none"],
) -> Iterator[str]:
    """Yield a line for each augmentation that does not fit."""
    if augmentation.overlay.probability > 0 and instances == "none":
        yield (
            "[training.augmentation.overlay] probability: crops laid over each other need instances"
            " as ground truth, which this method has not. Set probability = 0"
        )
    if augmentation.overlay.probability > 0 and instances == "separate":
        yield (
            "[training.augmentation.overlay] probability: crops laid over each other make instances"
            " overlap; expected the method patches with method.foreground = 'count'. Set it, or"
            " probability = 0"
        )
    channels = settings.num_channels
    if augmentation.hue.probability > 0 and channels != 3:
        yield (
            "[training.augmentation.hue] probability: expected data.num_channels = 3 (RGB), found"
            f" {channels}. Set probability = 0"
        )
    if augmentation.permute_channels.probability > 0 and channels < 2:
        yield (
            "[training.augmentation.permute_channels] probability: expected more than one channel,"
            f" found data.num_channels = {channels}. Set probability = 0"
        )
    if augmentation.grayscale.probability > 0 and channels < 2:
        yield (
            "[training.augmentation.grayscale] probability: expected more than one channel, found"
            f" data.num_channels = {channels}. Set probability = 0"
        )
    for name, axes in augmentation.simple:
        if axes != "all" and any(axis >= settings.ndim for axis in axes):
            yield (
                f"[training.augmentation.simple] {name}: expected axes from 0 to"
                f" {settings.ndim - 1}, because data.ndim = {settings.ndim}, found {list(axes)}."
                " Change one of them"
            )
    for name in ("misalignment", "missing_sections"):
        if getattr(augmentation, name).probability > 0 and settings.ndim == 2:
            yield (
                f"[training.augmentation.{name}] probability: expected volumes, which have"
                " sections, found data.ndim = 2. Set probability = 0"
            )


def _float_advice(labels: Reader) -> str:
    """Return what to do about labels of another type."""
    if labels.dtype == np.bool_:
        return "This is a mask: label its components first, for example with skimage.measure.label"
    if not np.issubdtype(labels.dtype, np.floating):
        return "Export them again"
    for index in slabs(labels.shape):
        block: NDArray[Any] = labels[index]
        if not np.array_equal(block, np.round(block)):
            return "They have fractions, so this may be a probability map: export the labels"
    return "They are whole numbers: convert them, for example with astype('uint16')"

"""Folders of images turned into zarr samples."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.data.config import DataSettings
from instaseg.errors import DataError
from instaseg.io.arrays import Reader, default_chunks, has_array, new_array, write_array
from instaseg.io.pairing import pair_images
from instaseg.io.samples import Sample, Source, Truth, read_whole
from instaseg.progress import progress

logger = logging.getLogger(__name__)

RAW_KEY = "volumes/raw"
LABELS_KEY = "volumes/gt_labels"
INSTANCES_KEY = "volumes/gt_instances"
MASK_KEY = "volumes/mask"

_TRUTH_KEYS: Mapping[Truth, str] = {"labels": LABELS_KEY, "instances": INSTANCES_KEY}


@dataclass(frozen=True)
class Converted:
    """How many samples were written, and how many were there already."""

    written: int
    skipped: int


def paired_samples(images: Path, labels: Path | None, settings: DataSettings) -> list[Sample]:
    """Return the samples of a folder of images and a folder of labels, of any names.

    Parameters
    ----------
    images, labels : Path
        Folders of TIFF and PNG files; see :func:`instaseg.io.pairing.pair_images`.
    settings : DataSettings
        Axes, channels and voxel size.

    Raises
    ------
    DataError
        If a folder is missing or empty, or a file has no partner.
    """
    for folder in (images, labels):
        if folder is not None and not folder.is_dir():
            raise DataError(f"{folder}: expected a folder of TIFF or PNG files; check the path")
    pairs = pair_images(images, labels if labels is not None else images / "no labels")
    if not pairs:
        raise DataError(f"{images}: no TIFF or PNG files found; check the path")
    return [
        Sample(
            name=image.stem,
            raw=Source(image),
            labels=None if label is None else Source(label),
            mask=None,
            resolution=settings.voxel_size or (1.0,) * settings.ndim,
            units=("voxel",) * settings.ndim,
            channels=settings.num_channels,
        )
        for image, label in pairs
    ]


def split_by_names(
    samples: Sequence[Sample], chosen: Sequence[str]
) -> tuple[list[Sample], list[Sample]]:
    """Return the samples that are not in a list of names, and those that are.

    Raises
    ------
    DataError
        If a name is that of no sample.
    """
    names = {sample.name for sample in samples}
    unknown = [name for name in chosen if name not in names]
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(chosen)} names in the list belong to no image, for example"
            f" {unknown[0]!r}; expected file names without suffix, one per line. Check the list"
        )
    rest = [sample for sample in samples if sample.name not in set(chosen)]
    return rest, [sample for sample in samples if sample.name in set(chosen)]


def convert(samples: Sequence[Sample], folder: Path) -> Converted:
    """Write samples as ``<folder>/<name>.zarr``; those that are there are left as they are.

    The labels are written last, so that a sample that was interrupted is written again.

    Parameters
    ----------
    samples : sequence of Sample
        Of any format, checked.
    folder : Path
        Made if it is not there.

    Returns
    -------
    Converted
        Counts.

    Raises
    ------
    DataError
        If a sample cannot be read or written; samples before it stay.
    """
    written = 0
    for sample in progress(samples, f"writing {folder}", total=len(samples)):
        path = folder / f"{sample.name}.zarr"
        if _complete(path, sample):
            continue
        _write(sample, path)
        written += 1
    skipped = len(samples) - written
    if skipped:
        logger.info("%s: %d samples were there already and are left as they are", folder, skipped)
    return Converted(written, skipped)


def _complete(path: Path, sample: Sample) -> bool:
    """Return whether all arrays of a sample are written."""
    keys = [RAW_KEY]
    keys += [MASK_KEY] if sample.mask else []
    keys += [_TRUTH_KEYS[sample.truth]] if sample.labels else []
    return all(has_array(path, key) for key in keys)


def _write(sample: Sample, path: Path) -> None:
    """Write one sample."""
    space = ["z", "y", "x"][-sample.ndim :]
    attributes = {
        "resolution": list(sample.resolution),
        "offset": [0.0] * sample.ndim,
        "axis_names": space,
        "units": list(sample.units),
    }
    raw = sample.read_raw()
    with_channels = {**attributes, "axis_names": ["c", *space]}
    write_array(path, RAW_KEY, raw, attributes=with_channels)
    mask = sample.read_mask()
    if mask is not None:
        write_array(path, MASK_KEY, (mask != 0).astype(np.uint8), attributes=attributes)
    labels = sample.open_labels()
    if labels is None:
        return
    if sample.truth == "instances":
        _write_instances(labels, path, attributes)
    else:
        write_array(path, LABELS_KEY, _unsigned(read_whole(labels)), attributes=attributes)


def _write_instances(instances: Reader, path: Path, attributes: Mapping[str, Any]) -> None:
    """Write instance channels as 0 and 1, one at a time."""
    count, *space = instances.shape
    with new_array(
        path,
        INSTANCES_KEY,
        shape=instances.shape,
        dtype=np.uint8,
        # Of its own for every channel, in 2-D too: crops are read channel by channel.
        chunks=(1, *default_chunks(space)),
        attributes={**attributes, "axis_names": ["n", *attributes["axis_names"]]},
    ) as writer:
        for channel in range(count):
            index = (slice(channel, channel + 1), *(slice(0, n) for n in space))
            writer[index] = (instances[index] != 0).astype(np.uint8)


def _unsigned(labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels in the smallest unsigned type from 16 bits on that holds them."""
    smallest = np.min_scalar_type(int(labels.max(initial=0)))
    return labels.astype(np.promote_types(smallest, np.uint16))


def rename_units(samples: Sequence[Sample], unit: str) -> list[Sample]:
    """Return samples whose voxel size is in `unit`."""
    return [replace(sample, units=(unit,) * sample.ndim) for sample in samples]

"""Results as TIFF files that ImageJ opens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.errors import DataError
from instaseg.io.arrays import Reader, open_array
from instaseg.io.image_files import StackLayout, write_stack
from instaseg.io.quantise import dequantise
from instaseg.metrics.instance_classes import ClassOf
from instaseg.stages.results.kind import ExportTask
from instaseg.stages.stored import open_at_image_size

# Values read at once, unless one plane of all channels is more.
MOST_VALUES = 1 << 24


def write_labels(task: ExportTask) -> None:
    """Write labels: a label image, or one channel for each stored channel.

    Raises
    ------
    DataError
        If a label is larger than 32 bits hold.
    """
    reader, ndim = open_array(task.source, task.key), len(task.resolution)
    layout = _layout(reader.shape, _label_type(reader, ndim, task), task)
    write_stack(task.output, (p.astype(layout.dtype) for p in _pages(reader, ndim)), layout)


def write_classes(task: ExportTask, classes: ClassOf) -> None:
    """Write the class of the instance at every voxel, 0 in the background, as labels are written.

    Parameters
    ----------
    task : ExportTask
        The labels.
    classes : mapping of (int, int) to int
        Class of each instance by channel, 0 in a label image, and label.
    """
    reader, ndim = open_array(task.source, task.key), len(task.resolution)
    channels = reader.shape[0] if len(reader.shape) > ndim else 1
    layout = _layout(reader.shape, np.dtype(np.uint8), task)
    # pages come with all channels of a plane one after the other
    pages = enumerate(_pages(reader, ndim))
    found = (_classes_of(page, classes, number % max(channels, 1)) for number, page in pages)
    write_stack(task.output, found, layout)


def _classes_of(page: NDArray[Any], classes: ClassOf, channel: int) -> NDArray[np.uint8]:
    labels, position = np.unique(page, return_inverse=True)
    of_label = [classes.get((channel, int(label)), 0) for label in labels]
    return np.array(of_label, np.uint8)[position.reshape(page.shape)]


def write_probabilities(task: ExportTask) -> None:
    """Write probabilities ``(c, [z,] y, x)`` of the image as numbers of single precision."""
    reader, ndim = open_at_image_size(task.source, task.key), len(task.resolution)
    layout = _layout(reader.shape, np.dtype(np.float32), task)
    write_stack(task.output, (dequantise(p) for p in _pages(reader, ndim)), layout)


def _layout(stored: Sequence[int], dtype: np.dtype[Any], task: ExportTask) -> StackLayout:
    """Return what a stack of pages is, from the shape of what is stored."""
    ndim = len(task.resolution)
    channels = len(stored) == ndim + 1
    shape = (max(stored[0], 1), *stored[1:]) if channels else tuple(stored)
    axes = ("C" if channels else "") + "ZYX"[-ndim:]
    if axes == "CZYX":  # ImageJ's order: all channels of a plane follow each other
        shape, axes = (shape[1], shape[0], *shape[2:]), "ZCYX"
    return StackLayout(
        shape=shape,
        dtype=dtype,
        axes=axes,
        resolution=task.resolution,
        unit="pixel" if task.units[-1] == "voxel" else task.units[-1],
        note=task.note,
    )


def _label_type(reader: Reader, ndim: int, task: ExportTask) -> np.dtype[Any]:
    """Return uint8, uint16 or uint32, whichever is the smallest that holds every label.

    Types of one or two bytes are not searched for their largest label.
    """
    if reader.dtype.itemsize == 1:
        return np.dtype(np.uint8)
    if reader.dtype.itemsize == 2:
        return np.dtype(np.uint16)
    largest = max((int(page.max()) for page in _pages(reader, ndim) if page.size), default=0)
    if largest > np.iinfo(np.uint32).max:
        raise DataError(
            f"{task.source}: {task.key}: expected labels of at most 32 bits, found {largest};"
            " number them again with postprocessing.relabel = 'sequential'"
        )
    return np.dtype(np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32)


def _pages(reader: Reader, ndim: int) -> Iterator[NDArray[Any]]:
    """Yield the planes of labels or channels, all channels of a plane together, slab by slab."""
    shape: Sequence[int] = reader.shape
    channels = len(shape) == ndim + 1
    if channels and shape[0] == 0:
        blank = np.zeros(shape[-2:], reader.dtype)
        yield from (blank for _ in range(shape[1] if ndim == 3 else 1))
        return
    lead = (slice(0, shape[0]),) if channels else ()
    plane = (slice(0, shape[-2]), slice(0, shape[-1]))
    if ndim == 2:
        block = reader[(*lead, *plane)]
        yield from block if channels else (block,)
        return
    depth = shape[-3]
    thick = (reader.chunks or (1, 1, 1))[-3]
    room = MOST_VALUES // max(1, int(np.prod(shape)) // max(depth, 1))
    step = max(1, room - room % thick if room >= thick else room)
    for start in range(0, depth, step):
        block = reader[(*lead, slice(start, min(start + step, depth)), *plane)]
        for z in range(block.shape[-3]):
            yield from block[:, z] if channels else (block[z],)

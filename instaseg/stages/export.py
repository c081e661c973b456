"""``--do export``: instances as TIFF files that ImageJ opens."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.scheduler import run_tasks
from instaseg.errors import DataError
from instaseg.io.arrays import Reader, open_array
from instaseg.io.image_files import StackLayout, stack_note, write_stack
from instaseg.io.samples import Sample
from instaseg.run.fingerprint import fingerprint
from instaseg.stages.context import Context, Dataset
from instaseg.stages.evaluate import finished_key
from instaseg.stages.label import instances_fingerprint
from instaseg.stages.labelling import REPAIRED
from instaseg.stages.postprocess import instances_path, repaired_fingerprint, require_instances
from instaseg.stages.selection import Selection, select

logger = logging.getLogger(__name__)

# Values read at once, unless one plane of all channels is more.
MOST_VALUES = 1 << 24


@dataclass(frozen=True)
class ExportTask:
    """What :func:`export_sample` needs.

    Parameters
    ----------
    sample : str
        Its name, for messages.
    source : Path
        Zarr folder of the instances.
    key : str
        Their array.
    output : Path
        The TIFF to write.
    resolution, units : tuple
        Size of a voxel and its unit per spatial axis.
    note : str
        Kept in the file; tells what it was made from.
    """

    sample: str
    source: Path
    key: str
    output: Path
    resolution: tuple[float, ...]
    units: tuple[str, ...]
    note: str

    def __str__(self) -> str:
        return f"sample {self.sample}"


def run(context: Context) -> str:
    """Write every test sample's instances, repaired ones if they are current."""
    dataset, selection = context.dataset("test"), select(context)
    require_instances(context, dataset, selection)
    tasks = [_task(context, dataset, sample, selection) for sample in dataset.samples]
    overwrite = context.options.existing == "overwrite"
    missing = [task for task in tasks if overwrite or stack_note(task.output) != task.note]
    if len(missing) < len(tasks):
        logger.info("export: %d of %d samples done, skipped", len(tasks) - len(missing), len(tasks))
    run_tasks(export_sample, missing, workers=context.workers, description="export")
    return f"export: {len(tasks)} files in {tasks[0].output.parent}"


def _task(context: Context, dataset: Dataset, sample: Sample, selection: Selection) -> ExportTask:
    path = instances_path(context, dataset, sample, selection)
    key = finished_key(context, sample, path, selection)
    made_from = repaired_fingerprint if key == REPAIRED else instances_fingerprint
    source = made_from(context, sample, selection)
    return ExportTask(
        sample=sample.name,
        source=path,
        key=key,
        output=context.experiment.exported(dataset.name, sample.name),
        resolution=sample.resolution,
        units=sample.units,
        note=f"instaseg {fingerprint('export', source, sample.resolution, sample.units)}",
    )


def export_sample(task: ExportTask) -> None:
    """Write one sample's instances: a label image, or one channel for each stored channel.

    Raises
    ------
    DataError
        If a label is larger than 32 bits hold.
    """
    reader, ndim = open_array(task.source, task.key), len(task.resolution)
    channels = len(reader.shape) == ndim + 1
    shape = (max(reader.shape[0], 1), *reader.shape[1:]) if channels else reader.shape
    axes = ("C" if channels else "") + "ZYX"[-ndim:]
    if axes == "CZYX":  # ImageJ's order: all channels of a plane follow each other
        shape, axes = (shape[1], shape[0], *shape[2:]), "ZCYX"
    layout = StackLayout(
        shape=shape,
        dtype=_label_type(reader, ndim, task),
        axes=axes,
        resolution=task.resolution,
        unit="pixel" if task.units[-1] == "voxel" else task.units[-1],
        note=task.note,
    )
    write_stack(task.output, (p.astype(layout.dtype) for p in _pages(reader, ndim)), layout)


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

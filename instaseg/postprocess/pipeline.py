"""Post-processing of instances: the order of all steps, for any blocks.

Each step leaves the instances of the one before as they are, and keeps those of its own by block::

    instances ─► step 0 ─► step 1 ─► ... ─► measured, removed, numbered ─► result

so that a run that was killed goes on after the last step that is complete, and inside a step that
works block by block with the blocks that are missing. Of a step that is complete, those before are
dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.grid import BlockGrid, StoredBlocks
from instaseg.blockwise.tasks import BlockTask, every_block, run_missing
from instaseg.blockwise.work import Run, Store
from instaseg.errors import DataError
from instaseg.geometry import whole
from instaseg.io.arrays import ArraySource
from instaseg.postprocess.absorb import absorb_pieces
from instaseg.postprocess.channel import (
    Channel,
    Editable,
    Layer,
    NewArray,
    Target,
    check_labels,
    check_shape,
)
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.postprocess.filters import Report, Row, judge, number
from instaseg.postprocess.properties import check_properties
from instaseg.postprocess.refine import change_by
from instaseg.postprocess.scene import Scene
from instaseg.postprocess.steps import Change, KeepInside, fill_holes, keep_largest_components
from instaseg.postprocess.voronoi import grow_in_mask, label_empty_parts

LABELS = "labels"
"""What a block's instances after a step are called in the store."""


@dataclass(frozen=True)
class Place:
    """Where post-processing works: in memory or on disk.

    Parameters
    ----------
    blocks : BlockGrid
        The parts that are in memory at once.
    store : Store
        Keeps blocks of instances after each step; those of an earlier run are used.
    run : callable
        Runs tasks on blocks.
    new_array : callable
        Gives arrays of zeros for what a step edits.
    result : callable
        Gives the array of the result by its type; it is complete when the context ends. Blocks are
        whole chunks of it.
    report : callable
        Takes the table of instances, before the result is complete.
    """

    blocks: BlockGrid
    store: Store
    run: Run
    new_array: NewArray
    result: Callable[[np.dtype[Any]], AbstractContextManager[Target]]
    report: Callable[[Report], None]


@dataclass(frozen=True)
class OfBlocks:
    """A step that is made of every block and its surroundings: what `prepare` says."""

    prepare: Callable[[Channel], Change]


@dataclass(frozen=True)
class Edit:
    """A step that edits a copy of all instances, in this process."""

    edit: Callable[[Editable], None]


Step = OfBlocks | Edit


def process(
    instances: ArraySource, settings: PostprocessingSettings, *, scene: Scene, place: Place
) -> None:
    """Do all steps, in the order of the keys of ``[postprocessing]``.

    1. Parts off the largest component go first: they would enclose holes of their own.
    2. Holes are filled; 3. instances refined; 4. big ones take in their pieces; 5. they grow inside
    the mask. 6. What lies outside the region of interest goes last, so that inside it instances
    are those of the whole image. 7. Instances are measured as they are now, and removed by rules
    and size. 8. Those that are left are numbered.

    Raises
    ------
    DataError
        For instances, a region of interest or a mask of a wrong kind.
    """
    shape, dtype = tuple(instances.shape), np.dtype(instances.dtype)
    check_shape(shape, dtype, scene.ndim)
    _check_scene(shape, settings, scene)
    steps, between = steps_of(settings, scene), _type_between(dtype, settings)
    leads = [(slice(n, n + 1),) for n in range(shape[0])] if len(shape) > scene.ndim else [()]
    channels = []
    for count, lead in enumerate(leads):
        channel = Channel(instances, lead, place.blocks, scene.spacing, place.run, place.new_array)
        channels.append(_after(channel, steps, f"channel{count}", place=place, dtype=between))
    rows, dtype = number([judge(channel, settings) for channel in channels], settings, dtype)
    with place.result(dtype) as writer:
        for count, (channel, of_channel) in enumerate(zip(channels, rows, strict=True)):
            _write(channel, of_channel, leads[count], writer=writer, place=place, dtype=dtype)
        place.report(Report(tuple(rows), settings.measured, scene.ndim))


def _check_scene(shape: tuple[int, ...], settings: PostprocessingSettings, scene: Scene) -> None:
    check_properties(settings.measured, scene.spacing, settings.perimeter)
    if settings.roi_key is not None and scene.roi is None:
        raise ValueError("`scene` needs a region of interest where roi_key is set")
    for name, mask in (("roi_key", scene.roi), ("voronoi", scene.mask)):
        if mask is not None and tuple(mask.shape) != shape[-scene.ndim :]:
            raise DataError(
                f"[postprocessing] {name}: expected a mask of the instances' shape"
                f" {shape[-scene.ndim :]}, found {tuple(mask.shape)}; make both of the same image"
            )
    if settings.voronoi.head is None:
        return
    if scene.mask is None:
        raise ValueError("`scene` needs a mask where voronoi.head is set")
    if len(shape) > scene.ndim:
        raise DataError(
            "[postprocessing.voronoi]: expected labels, which share a mask out among them, found"
            f" instances that may overlap, of shape {shape}; leave out head, or use"
            ' vote_instances.output = "single"'
        )


def steps_of(settings: PostprocessingSettings, scene: Scene) -> list[Step]:
    """Return the steps that change which voxels instances have."""
    steps: list[Step] = []
    if settings.components == "largest":
        steps.append(Edit(keep_largest_components))
    if settings.fill_holes == "per_instance":
        steps.append(Edit(fill_holes))
    for operation in settings.operations:
        filling = operation.name == "fill_holes"
        steps.append(Edit(fill_holes) if filling else OfBlocks(partial(change_by, operation)))
    if settings.repair_size:
        steps.append(Edit(partial(absorb_pieces, least=settings.repair_size)))
    if settings.voronoi.head is not None and scene.mask is not None:
        if settings.voronoi.without_instance == "new":
            steps.append(Edit(partial(label_empty_parts, mask=scene.mask)))
        most = settings.voronoi.most
        steps.append(Edit(partial(grow_in_mask, mask=scene.mask, most=most)))
    if settings.roi_key is not None and scene.roi is not None:
        inside = KeepInside(scene.roi, (0,) * scene.ndim)
        steps.append(OfBlocks(lambda _: inside))
    return steps


def _type_between(dtype: np.dtype[Any], settings: PostprocessingSettings) -> np.dtype[Any]:
    """Return the type of instances between steps."""
    if settings.voronoi.head and settings.voronoi.without_instance == "new":
        return np.dtype(np.int64)
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype


def _after(
    channel: Channel, steps: Sequence[Step], name: str, *, place: Place, dtype: np.dtype[Any]
) -> Channel:
    """Return a channel after some steps, each of which is in the store or made now."""
    names = [f"{name}_step{count}" for count in range(len(steps))]
    blocks = range(len(place.blocks))
    complete = [n for n, step in enumerate(names) if all(place.store.has(step, b) for b in blocks)]
    last = max(complete, default=-1)
    for count, step in enumerate(steps):
        if count > last:
            _do(step, channel, names[count], place=place, dtype=dtype)
            for before in names[:count]:
                place.store.forget(before)
        stored = StoredBlocks(place.store, names[count], LABELS, place.blocks, dtype)
        channel = Channel(stored, (), place.blocks, channel.spacing, channel.run, channel.new_array)
    return channel


def _do(step: Step, channel: Channel, name: str, *, place: Place, dtype: np.dtype[Any]) -> None:
    """Put what a step makes of a channel into the store, block by block."""
    if isinstance(step, OfBlocks):
        job = _ChangeJob(channel.layer, place.store, step.prepare(channel), name, dtype)
        run_missing(place.run, _change_block, every_block(job), name)
        return
    with place.new_array(name, place.blocks.shape, dtype) as array:
        for box in place.blocks.boxes:
            array[box.slices] = _checked(channel.read(box), dtype)
        own = (place.blocks, channel.spacing, channel.run, channel.new_array)
        step.edit(Editable(array, (), *own))
        *others, last = range(len(place.blocks))
        for block in others:
            place.store.write(name, block, {LABELS: array[place.blocks.boxes[block].slices]})
        kept = array[place.blocks.boxes[last].slices]
    # when the array is gone: a step that is complete has left nothing behind, whenever it is killed
    place.store.write(name, last, {LABELS: kept})


@dataclass(frozen=True)
class _ChangeJob:
    """What a step needs that is made of every block."""

    layer: Layer
    store: Store
    change: Change
    step: str
    dtype: np.dtype[Any]

    @property
    def blocks(self) -> BlockGrid:
        """How the channel is cut."""
        return self.layer.blocks


def _change_block(task: BlockTask[_ChangeJob]) -> None:
    """Store what a step makes of a block."""
    job, box = task.job, task.job.blocks.boxes[task.number]
    outer = box.grow(job.change.halo).intersect(whole(job.blocks.shape))
    values = job.change(_checked(job.layer.read(outer), job.dtype), outer)
    labels = np.ascontiguousarray(values[box.relative_to(outer).slices])
    job.store.write(job.step, task.number, {LABELS: labels})


def _checked(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    check_labels(values)
    if dtype == np.int64 and values.dtype == np.uint64 and values.max(initial=0) >= 1 << 63:
        raise DataError(
            f"instances: expected labels below 2^63, found {values.max()}; number them anew, or"
            ' leave out postprocessing.voronoi.without_instance = "new"'
        )
    return values.astype(dtype, copy=False)


@dataclass(frozen=True)
class _WriteJob:
    """What writing a block of a channel with the labels of the result needs."""

    layer: Layer
    store: Store
    numbers: str
    writer: Target
    lead: tuple[slice, ...]
    dtype: np.dtype[Any]

    @property
    def blocks(self) -> BlockGrid:
        """How the channel is cut."""
        return self.layer.blocks


def _write(
    channel: Channel,
    rows: Sequence[Row],
    lead: tuple[slice, ...],
    *,
    writer: Target,
    place: Place,
    dtype: np.dtype[Any],
) -> None:
    """Write a channel with the labels of the result."""
    name = f"numbers{lead[0].start if lead else 0}"
    labels = np.array([row.label for row in rows], np.uint64)
    numbers = np.array([row.number for row in rows], np.uint64).astype(dtype)
    place.store.write(name, 0, {"labels": labels, "numbers": numbers})
    job = _WriteJob(channel.layer, place.store, name, writer, lead, dtype)
    place.run(_write_block, every_block(job), "write")


def _write_block(task: BlockTask[_WriteJob]) -> None:
    """Write a block of a channel."""
    job, box = task.job, task.job.blocks.boxes[task.number]
    table = job.store.read(job.numbers, 0)
    values = job.layer.read(box)
    mapped: NDArray[Any] = np.zeros(box.shape, job.dtype)
    foreground = values > 0
    places = np.searchsorted(table["labels"], values[foreground].astype(np.uint64))
    mapped[foreground] = table["numbers"][places]
    job.writer[(*job.lead, *box.slices)] = mapped[None] if job.lead else mapped

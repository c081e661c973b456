"""Post-processing of instances: the order of all steps, for any blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.grid import BlockGrid
from instaseg.errors import DataError
from instaseg.postprocess.absorb import absorb_pieces
from instaseg.postprocess.channel import (
    Channel,
    NewArray,
    Target,
    check_labels,
    check_shape,
)
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.postprocess.filters import Report, Row, judge, number
from instaseg.postprocess.properties import check_properties
from instaseg.postprocess.refine import refine
from instaseg.postprocess.scene import Scene, Source
from instaseg.postprocess.steps import fill_holes, keep_inside, keep_largest_components
from instaseg.postprocess.voronoi import grow_in_mask, label_empty_parts


@dataclass(frozen=True)
class Place:
    """Where post-processing works: in memory or on disk.

    Parameters
    ----------
    blocks : BlockGrid
        The parts that are in memory at once.
    new_array : callable
        Gives arrays of zeros for what lies between steps.
    result : callable
        Gives the array of the result by its type; it is complete when the context ends.
    report : callable
        Takes the table of instances, before the result is complete.
    """

    blocks: BlockGrid
    new_array: NewArray
    result: Callable[[np.dtype[Any]], AbstractContextManager[Target]]
    report: Callable[[Report], None]


def process(
    instances: Source, settings: PostprocessingSettings, *, scene: Scene, place: Place
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
    leads = [(slice(n, n + 1),) for n in range(shape[0])] if len(shape) > scene.ndim else [()]
    with ExitStack() as stack:
        array: Any = instances  # is not written to where nothing changes
        if _changes_voxels(settings):
            work = stack.enter_context(place.new_array("work", shape, _work_type(dtype, settings)))
            array = work
        channels = [
            Channel(array, lead, place.blocks, scene.spacing, place.new_array) for lead in leads
        ]
        if array is not instances:
            for channel in channels:
                _copy(instances, channel)
                _change(channel, settings, scene)
        rows, dtype = number([judge(channel, settings) for channel in channels], settings, dtype)
        writer = stack.enter_context(place.result(dtype))
        for channel, of_channel in zip(channels, rows, strict=True):
            _write(channel, of_channel, writer, dtype)
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


def _changes_voxels(settings: PostprocessingSettings) -> bool:
    """Return whether any step changes which voxels instances have."""
    return bool(
        settings.components == "largest"
        or settings.fill_holes == "per_instance"
        or settings.refine
        or settings.repair_size
        or settings.voronoi.head
        or settings.roi_key
    )


def _work_type(dtype: np.dtype[Any], settings: PostprocessingSettings) -> np.dtype[Any]:
    """Return the type of instances between steps."""
    if settings.voronoi.head and settings.voronoi.without_instance == "new":
        return np.dtype(np.int64)
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype


def _copy(instances: Source, channel: Channel) -> None:
    for box in channel.blocks.boxes:
        values = instances[(*channel.lead, *box.slices)].reshape(box.shape)
        check_labels(values)
        channel.write(box, values.astype(channel.array.dtype))


def _change(channel: Channel, settings: PostprocessingSettings, scene: Scene) -> None:
    """Do the steps that change which voxels the instances of a channel have."""
    if settings.components == "largest":
        keep_largest_components(channel)
    if settings.fill_holes == "per_instance":
        fill_holes(channel)
    refine(channel, settings.operations)
    if settings.repair_size:
        absorb_pieces(channel, settings.repair_size)
    if settings.voronoi.head is not None and scene.mask is not None:
        if settings.voronoi.without_instance == "new":
            label_empty_parts(channel, scene.mask)
        grow_in_mask(channel, scene.mask, most=settings.voronoi.most)
    if settings.roi_key is not None and scene.roi is not None:
        keep_inside(channel, scene.roi)


def _write(channel: Channel, rows: Sequence[Row], writer: Target, dtype: np.dtype[Any]) -> None:
    """Write a channel with the labels of the result."""
    labels = np.array([row.label for row in rows], np.uint64)
    numbers = np.array([row.number for row in rows], np.uint64).astype(dtype)
    for box in channel.blocks.boxes:
        values = channel.read(box)
        mapped: NDArray[Any] = np.zeros(box.shape, dtype)
        foreground = values > 0
        mapped[foreground] = numbers[np.searchsorted(labels, values[foreground].astype(np.uint64))]
        writer[(*channel.lead, *box.slices)] = mapped[None] if channel.lead else mapped

"""One sample from its prediction to a result: whole as a task for any process, or in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from instaseg.blockwise.scheduler import Pool
from instaseg.blockwise.store import open_store
from instaseg.blockwise.work import BlockLabels, BlockWork
from instaseg.geometry import Coordinate, grid, whole
from instaseg.io.arrays import has_array, new_array, open_array, write_array
from instaseg.io.resampled import ResampledParts, resampled_labels
from instaseg.io.samples import Sample
from instaseg.methods.base import Decode, Device, Head, Result, ShowsSteps
from instaseg.methods.build import MethodSpec
from instaseg.postprocess.config import MedianFilter
from instaseg.postprocess.medians import filter_box, filter_channels
from instaseg.run.fingerprint import fingerprint
from instaseg.settings import Table
from instaseg.stages.results.table import RESULTS
from instaseg.stages.sizes import run_in
from instaseg.stages.stored import image_shape, method_at, read_prediction

CHECKED = "check"
"""Folder, beside a sample's result, of arrays that show what it was made from."""


@dataclass(frozen=True)
class LabelTask:
    """What :func:`label_sample` needs.

    Parameters
    ----------
    sample : str
        Its name, for messages.
    prediction, output : Path
        Zarr folders that are read and written.
    method : MethodSpec
        What turns predictions into instances.
    parameters : Table
        Table ``[vote_instances]``.
    fingerprint : str
        Kept with the result.
    decode : callable, optional
        Decoder, for methods with codes.
    device : {"cpu", "cuda"}
        Where heavy steps run.
    medians : tuple of MedianFilter
        Applied to every channel of the prediction before.
    refine : callable, optional
        Drops from a table of points what the sample shows to be wrong.
    """

    sample: str
    prediction: Path
    output: Path
    method: MethodSpec
    parameters: Table
    fingerprint: str
    decode: Decode | None = None
    device: Device = "cpu"
    medians: tuple[MedianFilter, ...] = ()
    refine: Callable[[NDArray[Any]], NDArray[Any]] | None = None

    def __str__(self) -> str:
        return f"sample {self.sample}"

    @property
    def blocks(self) -> Path:
        """The folder of finished blocks."""
        return self.output.with_suffix(".blocks")


def label_sample(task: LabelTask) -> None:
    """Read a prediction, label it and write the result."""
    method = method_at(task.method, task.prediction)
    prediction = read_prediction(task.prediction, method.labelled_heads)
    prediction = filtered(prediction, task.medians)
    labelled = method.label(prediction, [task.parameters], decode=task.decode, device=task.device)
    (result,) = labelled
    result = at_image_size(result, image_shape(task.prediction, method.labelled_heads))
    result = result if task.refine is None else task.refine(result)
    if isinstance(method, ShowsSteps):
        for name, shown in method.check_arrays(prediction, task.parameters).items():
            write_array(task.output, f"{CHECKED}/{name}", shown)
    key = RESULTS[method.result].key
    write_array(task.output, key, result, attributes={"fingerprint": task.fingerprint})


def for_type(labelling: Table, kind: str | None) -> Table:
    """Return the table ``[vote_instances]`` for an image of a type; None for one without."""
    resolve = getattr(labelling, "for_type", None)
    return labelling if resolve is None else cast(Table, resolve(kind))


def refinement(
    result: Result, sample: Sample, labelling: Table
) -> Callable[[NDArray[Any]], NDArray[Any]] | None:
    """Return what drops from a result what a sample shows to be wrong; None where nothing does."""
    refine = RESULTS[result].refine
    return None if refine is None else partial(refine, sample, labelling)


def label_in_blocks(task: LabelTask, block_shape: Coordinate, pool: Pool) -> None:
    """Label a sample block by block; results of blocks are kept until all of it is written."""
    method = method_at(task.method, task.prediction)
    store = open_store(task.blocks, fingerprint("blocks", task.fingerprint, block_shape))
    run = run_in(pool, f"label {task.sample}")
    work = BlockWork(block_shape, store, run, task.device)
    prediction = task.prediction
    if task.medians:
        prediction = store.folder / "filtered.zarr"
        copy_filtered(task.prediction, prediction, heads=method.labelled_heads, by=task.medians)
    labels = method.label_blocks(prediction, task.parameters, work, decode=task.decode)
    shape = image_shape(task.prediction, method.labelled_heads)
    labels = labels if shape is None else ResampledParts(labels, shape)
    if task.refine is not None:
        labels = RefinedTable(labels, task.refine)
    kind, chunks = RESULTS[method.result], None
    if method.result != "points":  # those are a table, without the axes of the blocks
        lead = (1,) * (len(labels.shape) - len(block_shape))
        chunks = tuple(min(b, n) for b, n in zip((*lead, *block_shape), labels.shape, strict=True))
    with new_array(
        task.output,
        kind.key,
        shape=labels.shape,
        dtype=kind.dtype,
        chunks=chunks,
        attributes={"fingerprint": task.fingerprint},
    ) as writer:
        for place, values in labels.parts():
            writer[place] = values
    store.remove()


class RefinedTable:
    """A table of points that was refined, with the face of labels found in blocks.

    Parameters
    ----------
    found : BlockLabels
        The table in one part.
    refine : callable
        From a table to one with fewer rows.
    """

    def __init__(self, found: BlockLabels, refine: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        ((_, table),) = found.parts()
        self._table = refine(table)
        self.shape: tuple[int, ...] = self._table.shape

    def parts(self) -> Iterator[tuple[tuple[slice, ...], NDArray[Any]]]:
        """Yield all of the table."""
        yield tuple(slice(0, n) for n in self.shape), self._table


def at_image_size(labels: NDArray[Any], shape: Coordinate | None) -> NDArray[Any]:
    """Return labels at the size of the image, by the nearest voxel; as they are without a shape."""
    return labels if shape is None else resampled_labels(labels, shape)


def filtered(
    prediction: Mapping[str, NDArray[Any]], medians: Sequence[MedianFilter]
) -> dict[str, NDArray[Any]]:
    """Return the heads of a prediction after some median filters, by name."""
    if not medians:
        return dict(prediction)
    return {name: filter_channels(values, medians) for name, values in prediction.items()}


def copy_filtered(
    source: Path, copy: Path, *, heads: Sequence[Head], by: Sequence[MedianFilter]
) -> None:
    """Write the heads of a prediction after some median filters, chunk by chunk.

    Heads that are there already are kept: the copy lies where it cannot be of something else.
    """
    for head in heads:
        if has_array(copy, head.key):
            continue
        stored = open_array(source, head.key)
        chunks = stored.chunks or stored.shape
        with new_array(
            copy,
            head.key,
            shape=stored.shape,
            dtype=stored.dtype,
            chunks=chunks,
            attributes=stored.attributes,
        ) as writer:
            for box in grid(whole(stored.shape[1:]), chunks[1:]):
                part = filter_box(stored, slice(0, stored.shape[0]), box, by)
                writer[(slice(0, stored.shape[0]), *box.slices)] = part

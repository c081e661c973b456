"""Probabilities to classes, of a whole image or block by block, with the same result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.grid import BlockGrid
from instaseg.blockwise.work import BlockWork, Store
from instaseg.geometry import Box
from instaseg.io.arrays import open_array
from instaseg.methods.semantic.config import LabelSettings
from instaseg.regions.thresholds import ValueCounts, count_values, otsu

COUNTS, CLASSES = "counts", "classes"
"""Steps of the work in blocks."""
WHOLE = "whole"
"""Name of the counts of all blocks together."""

_BYTE = 255


def classes_of(
    prediction: NDArray[Any], settings: LabelSettings, counts: ValueCounts | None = None
) -> NDArray[np.uint8]:
    """Return the class of every voxel.

    Parameters
    ----------
    prediction : ndarray, (1, [z,] y, x) or (classes, [z,] y, x)
        Probabilities as they are stored: float16, or uint8 for ``255 p``.
    settings : LabelSettings
        Threshold for two classes.
    counts : ValueCounts, optional
        How often the stored values occur in the whole image, for Otsu's threshold; those of
        `prediction` where left out.

    Returns
    -------
    ndarray of uint8, ([z,] y, x)
        Of equally probable classes the first.
    """
    if len(prediction) > 1:
        return np.asarray(prediction.argmax(axis=0), np.uint8)
    stored = prediction[0]
    if settings.threshold == "otsu":
        limit = otsu(count_values(stored) if counts is None else counts)
    else:
        limit = settings.threshold * (_BYTE if stored.dtype == np.uint8 else 1)
    # in double precision, which holds stored values and limits exactly enough to be compared
    return np.asarray(stored.astype(np.float64) > limit, np.uint8)


@dataclass(frozen=True)
class BlockJob:
    """What every block of an image needs.

    Parameters
    ----------
    path : Path
        Zarr folder of the prediction.
    key : str
        Array of the probabilities.
    settings : LabelSettings
        Table ``[vote_instances]``.
    blocks : BlockGrid
        The image's blocks.
    store : Store
        Where results of blocks are.
    """

    path: Path
    key: str
    settings: LabelSettings
    blocks: BlockGrid
    store: Store

    def read(self, box: Box) -> NDArray[Any]:
        """Return the stored probabilities in a box."""
        reader = open_array(self.path, self.key)
        return reader[(slice(0, reader.shape[0]), *box.slices)]


@dataclass(frozen=True)
class BlockTask:
    """One step of one block."""

    job: BlockJob
    number: int

    def __str__(self) -> str:
        return self.job.blocks.describe(self.number)


@dataclass(frozen=True)
class StoredClasses:
    """The classes of all blocks; see :class:`instaseg.blockwise.work.BlockLabels`."""

    job: BlockJob

    @property
    def shape(self) -> tuple[int, ...]:
        """``([z,] y, x)``."""
        return self.job.blocks.shape

    def parts(self) -> Iterator[tuple[tuple[slice, ...], NDArray[np.uint8]]]:
        """Yield places and their classes."""
        for number, box in enumerate(self.job.blocks.boxes):
            yield box.slices, self.job.store.read(CLASSES, number)["classes"]


def label_blocks(path: Path, key: str, settings: LabelSettings, work: BlockWork) -> StoredClasses:
    """Return the classes of a stored prediction, found block by block.

    Parameters
    ----------
    path : Path
        Zarr folder of the prediction.
    key : str
        Array of the probabilities.
    settings : LabelSettings
        Threshold for two classes.
    work : BlockWork
        Shape of the blocks, where results are kept, and what runs them.
    """
    reader = open_array(path, key)
    blocks = BlockGrid(tuple(reader.shape[1:]), tuple(work.block_shape))
    job = BlockJob(path, key, settings, blocks, work.store)
    if settings.threshold == "otsu" and not job.store.has(COUNTS, WHOLE):
        _for_missing(job, work, _count, COUNTS)
        _add_counts(job)
    _for_missing(job, work, _classify, CLASSES)
    return StoredClasses(job)


def _for_missing(
    job: BlockJob, work: BlockWork, function: Callable[[BlockTask], None], step: str
) -> None:
    """Run a step for the blocks that have no result of it."""
    missing = [BlockTask(job, n) for n in range(len(job.blocks)) if not job.store.has(step, n)]
    if missing:
        work.run(function, missing, step)


def _count(task: BlockTask) -> None:
    """Store how often each value occurs in a block."""
    values = task.job.read(task.job.blocks.boxes[task.number])[0]
    _write_counts(task.job.store, task.number, count_values(values))


def _add_counts(job: BlockJob) -> None:
    """Store how often each value occurs in the whole image."""
    of_blocks = (_read_counts(job.store, number) for number in range(len(job.blocks)))
    _write_counts(job.store, WHOLE, reduce(add, of_blocks))


def _write_counts(store: Store, name: str | int, counts: ValueCounts) -> None:
    store.write(COUNTS, name, {"values": counts.values, "counts": counts.counts})


def _read_counts(store: Store, name: str | int) -> ValueCounts:
    arrays = store.read(COUNTS, name)
    return ValueCounts(arrays["values"], arrays["counts"])


def _classify(task: BlockTask) -> None:
    """Store the classes of a block."""
    job = task.job
    counts = _read_counts(job.store, WHOLE) if job.settings.threshold == "otsu" else None
    classes = classes_of(job.read(job.blocks.boxes[task.number]), job.settings, counts)
    job.store.write(CLASSES, task.number, {"classes": classes})

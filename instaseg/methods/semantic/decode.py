"""Probabilities to classes, of a whole image or block by block, with the same result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.grid import BlockGrid
from instaseg.blockwise.tasks import BlockTask, every_block, run_missing
from instaseg.blockwise.work import BlockWork, Store
from instaseg.io.stored_heads import StoredHeads
from instaseg.methods.semantic.config import LabelSettings
from instaseg.regions.thresholds import ValueCounts, count_values, otsu, sum_counts

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
class ClassesJob:
    """What every block of an image needs.

    Parameters
    ----------
    source : StoredHeads
        The probabilities on disk.
    settings : LabelSettings
        Table ``[vote_instances]``.
    blocks : BlockGrid
        The image's blocks.
    store : Store
        Where results of blocks are.
    """

    source: StoredHeads
    settings: LabelSettings
    blocks: BlockGrid
    store: Store

    def read(self, number: int) -> NDArray[Any]:
        """Return the stored probabilities of a block."""
        return self.source.component(CLASSES, self.blocks.boxes[number])


@dataclass(frozen=True)
class StoredClasses:
    """The classes of all blocks; see :class:`instaseg.blockwise.work.BlockLabels`."""

    job: ClassesJob

    @property
    def shape(self) -> tuple[int, ...]:
        """``([z,] y, x)``."""
        return self.job.blocks.shape

    def parts(self) -> Iterator[tuple[tuple[slice, ...], NDArray[np.uint8]]]:
        """Yield places and their classes."""
        for number, box in enumerate(self.job.blocks.boxes):
            yield box.slices, self.job.store.read(CLASSES, number)["classes"]


def label_blocks(source: StoredHeads, settings: LabelSettings, work: BlockWork) -> StoredClasses:
    """Return the classes of a stored prediction, found block by block.

    Parameters
    ----------
    source : StoredHeads
        The prediction; its head ``classes`` has the probabilities.
    settings : LabelSettings
        Threshold for two classes.
    work : BlockWork
        Shape of the blocks, where results are kept, and what runs them.
    """
    blocks = BlockGrid(source.shape, tuple(work.block_shape))
    job = ClassesJob(source, settings, blocks, work.store)
    if settings.threshold == "otsu" and not job.store.has(COUNTS, WHOLE):
        run_missing(work.run, _count, every_block(job), COUNTS)
        _add_counts(job)
    run_missing(work.run, _classify, every_block(job), CLASSES)
    return StoredClasses(job)


def _count(task: BlockTask[ClassesJob]) -> None:
    """Store how often each value occurs in a block."""
    job = task.job
    counted = count_values(job.read(task.number)[0])
    job.store.write(COUNTS, task.number, counted.arrays())


def _add_counts(job: ClassesJob) -> None:
    """Store how often each value occurs in the whole image."""
    parts = (job.store.read(COUNTS, number) for number in range(len(job.blocks)))
    job.store.write(COUNTS, WHOLE, sum_counts(parts).arrays())


def _classify(task: BlockTask[ClassesJob]) -> None:
    """Store the classes of a block."""
    job = task.job
    counts = None
    if job.settings.threshold == "otsu":
        counts = sum_counts([job.store.read(COUNTS, WHOLE)])
    classes = classes_of(job.read(task.number), job.settings, counts)
    job.store.write(CLASSES, task.number, {"classes": classes})

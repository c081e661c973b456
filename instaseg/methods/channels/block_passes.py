"""Passes over all blocks of a volume, and what is put together between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise import components
from instaseg.blockwise.grid import read_every
from instaseg.blockwise.tasks import every_block, run_missing
from instaseg.blockwise.work import Run
from instaseg.methods.channels.block_steps import (
    ChannelsJob,
    ChannelsTask,
    MaskTask,
    components_of,
    find_components,
    numbers_of,
)
from instaseg.regions.flood import Neighbours


def run_pass(
    job: ChannelsJob, run: Run, function: Callable[[ChannelsTask], None], step: str
) -> None:
    """Run a function for the blocks that have no result of a step.

    Parameters
    ----------
    job : ChannelsJob
        The volume.
    run : callable
        Runs a function on tasks.
    function : callable
        Makes the result of a task's block.
    step : str
        Which result.
    """
    run_missing(run, function, every_block(job), step)


def run_of_mask(
    job: ChannelsJob, run: Run, function: Callable[[MaskTask], None], step: str, *, mask: str
) -> None:
    """Run a function on a mask for the blocks that have no result of a step.

    Parameters
    ----------
    job, run, function, step
        As for :func:`run_pass`.
    mask : str
        Name of the mask in the store.
    """
    run_missing(run, function, (MaskTask(job, n, mask) for n in range(len(job.blocks))), step)


def merged_components(
    job: ChannelsJob, run: Run, mask: str, neighbours: Neighbours = "faces"
) -> components.Components:
    """Return the components of a mask that every block has in the store."""
    step = components_of(mask)
    find = partial(find_components, neighbours=neighbours)
    run_of_mask(job, run, find, step, mask=mask)
    return components.merge(job.blocks, lambda n, names: job.store.read(step, n, names))


def tell(
    job: ChannelsJob, mask: str, found: components.Components, numbers: NDArray[np.integer]
) -> None:
    """Store what becomes of components 0, 1, 2 ... for every block."""
    for block, own in enumerate(found.numbers):
        job.store.write(numbers_of(mask), block, {"numbers": numbers[own]})


@dataclass(frozen=True)
class Merged:
    """What labels measure in the whole volume.

    Parameters
    ----------
    ids : ndarray of int64, (n,)
        Labels, ascending.
    sizes, firsts : ndarray of int64, (n,)
        Voxels, and the index of the first one in the flattened volume.
    outer : ndarray of bool, (n,)
        Whether a voxel lies at the volume's border.
    """

    ids: NDArray[np.int64]
    sizes: NDArray[np.int64]
    firsts: NDArray[np.int64]
    outer: NDArray[np.bool_]

    def numbers(self, kept: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Return for labels 0, 1, 2 ... their places by first voxel among those that are kept.

        Others get 0.
        """
        numbers = np.zeros(int(self.ids.max(initial=0)) + 1, np.int32)
        rows = np.flatnonzero(kept)
        order = rows[np.argsort(self.firsts[rows])]
        numbers[self.ids[order]] = np.arange(1, len(order) + 1)
        return numbers


def merged(job: ChannelsJob, step: str) -> Merged:
    """Return what labels measure, from what :func:`~.block_steps.measure` gave for every block."""
    every = read_every(job.store, step, job.blocks, ["ids", "sizes", "firsts", "outer"])
    ids, row = np.unique(every["ids"], return_inverse=True)
    sizes, outer = np.zeros(len(ids), np.int64), np.zeros(len(ids), bool)
    firsts = np.full(len(ids), np.iinfo(np.int64).max)
    np.add.at(sizes, row, every["sizes"])
    np.logical_or.at(outer, row, every["outer"])
    np.minimum.at(firsts, row, every["firsts"])
    return Merged(ids, sizes, firsts, outer)

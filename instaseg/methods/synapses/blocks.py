"""Points of a volume block by block; a volume as a whole is one block.

Steps run over all blocks before the next begins; what one leaves for a block is in a store::

    values (where thresholds follow from them) -> candidates, or components of painted clefts
      b                                             b + 2        b + 1 (upper faces)

Everything else works on what was found, which is little; see
:mod:`instaseg.methods.synapses.decode`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise import components
from instaseg.blockwise.grid import BlockGrid
from instaseg.blockwise.tasks import BlockTask, run_missing
from instaseg.blockwise.work import Run, Store
from instaseg.geometry import Box, Coordinate, bounding_box, whole
from instaseg.io.points import Points
from instaseg.methods.synapses.decode import (
    Decoding,
    Found,
    Regions,
    clefts_of,
    found_threshold,
    measure_regions,
    points_of,
)
from instaseg.methods.synapses.peaks import HALO, Candidates, find_candidates
from instaseg.regions.thresholds import count_values, sum_counts

VALUES, CANDIDATES, COMPONENTS = "values", "candidates", "components"
"""Names of the steps in the store; those of sites are appended."""

VECTORS = "vectors"
"""Name of the head whose channels are a vector."""


class PointSource(Protocol):
    """Predicted heads, read part by part. Picklable."""

    @property
    def shape(self) -> Coordinate:
        """The volume ``([z,] y, x)`` in voxels."""

    def probability(self, site: str, box: Box) -> NDArray[np.float32]:
        """Return the probability of a site in a box inside the volume."""

    def vectors(self, box: Box) -> NDArray[np.float32]:
        """Return the vectors ``(axes, *box.shape)`` in a box inside the volume."""


@dataclass(frozen=True)
class PointJob:
    """What every step of a volume's blocks needs.

    Parameters
    ----------
    source : PointSource
        The prediction.
    how : Decoding
        How points are made of it.
    blocks : BlockGrid
        The volume's blocks.
    store : Store
        Where results of blocks are.
    """

    source: PointSource
    how: Decoding
    blocks: BlockGrid
    store: Store


@dataclass(frozen=True)
class PointTask(BlockTask[PointJob]):
    """One block and site of a step, for any process."""

    site: str
    threshold: float = 0.0

    def __str__(self) -> str:
        return f"{self.site}, {self.job.blocks.describe(self.number)}"


def find_points(job: PointJob, run: Run) -> Points:
    """Return the points of a volume, with their connections; the same for any blocks."""
    found = {site: _found(job, run, site) for site in job.how.sites}
    return points_of(found, job.how)


def find_clefts(job: PointJob, run: Run, min_voxels: int) -> Points:
    """Return the centroids of the components of painted clefts; the same for any blocks.

    Voxels that share an edge or a corner are connected.
    """
    (site,) = job.how.sites
    threshold = _threshold(job, run, site)
    step = _step(COMPONENTS, site, threshold)
    _for_all(job, run, find_components, step, site, threshold)
    return clefts_of(_merged(job, step), min_voxels, threshold)


def _step(name: str, site: str, threshold: float) -> str:
    """Return the name of a step, which another threshold would make anew."""
    return f"{name}_{site}_{threshold!r}"


def _for_all(
    job: PointJob,
    run: Run,
    function: Callable[[PointTask], None],
    step: str,
    site: str,
    threshold: float = 0.0,
) -> None:
    """Run a step for the blocks that have no result of it."""
    tasks = (PointTask(job, number, site, threshold) for number in range(len(job.blocks)))
    run_missing(run, function, tasks, step, f"{step.partition('_')[0]} of {site}")


def _threshold(job: PointJob, run: Run, site: str) -> float:
    """Return the threshold of a site, which may follow from all of the volume."""
    if job.how.threshold_by == "value":
        return found_threshold(job.how, site, None)
    step = f"{VALUES}_{site}"
    _for_all(job, run, count_block, step, site)
    parts = [job.store.read(step, number) for number in range(len(job.blocks))]
    return found_threshold(job.how, site, sum_counts(parts))


def count_block(task: PointTask) -> None:
    """Store how often each probability occurs in a block."""
    job = task.job
    counts = count_values(job.source.probability(task.site, job.blocks.boxes[task.number]))
    job.store.write(f"{VALUES}_{task.site}", task.number, counts.arrays())


def find_block_candidates(task: PointTask) -> None:
    """Store the candidates of a block, and the vectors there."""
    job = task.job
    block = job.blocks.boxes[task.number]
    around = block.grow([HALO] * len(block.begin)).intersect(whole(job.blocks.shape))
    inner = block.relative_to(around)
    values = job.source.probability(task.site, around)
    found = find_candidates(values, task.threshold, inner=inner.slices)
    vectors = np.zeros((0, len(block.begin)), np.float32)
    if job.how.vectors and len(found.values):
        part = bounding_box(found.voxels.T)
        there = job.source.vectors(part.shift(around.begin))
        vectors = there[(slice(None), *(found.voxels - np.array(part.begin)).T)].T
    arrays = {
        "voxels": found.voxels + np.array(around.begin),
        "values": found.values,
        "open": found.open,
        "vectors": np.ascontiguousarray(vectors),
    }
    job.store.write(_step(CANDIDATES, task.site, task.threshold), task.number, arrays)


def _found(job: PointJob, run: Run, site: str) -> Found:
    """Return what all blocks have of a site."""
    threshold = _threshold(job, run, site)
    step = _step(CANDIDATES, site, threshold)
    _for_all(job, run, find_block_candidates, step, site, threshold)
    parts = [job.store.read(step, number) for number in range(len(job.blocks))]
    return Found(
        candidates=[Candidates(p["voxels"], p["values"], p["open"]) for p in parts],
        vectors=np.concatenate([p["vectors"] for p in parts]) if job.how.vectors else None,
        threshold=threshold,
    )


def find_components(task: PointTask) -> None:
    """Store the components of a block, and the sums over their voxels inside it."""
    job = task.job
    block, read = job.blocks.boxes[task.number], job.blocks.read_box(task.number)
    values = job.source.probability(task.site, read)
    inside = values > task.threshold
    arrays = components.label_block(inside, block.shape)
    core = tuple(slice(0, n) for n in block.shape)
    labels = components.local_labels(inside)
    regions = measure_regions(labels[core], values[core], len(arrays["sizes"]) - 1)
    moved = regions.sums + regions.sizes[:, np.newaxis] * np.array(block.begin)
    arrays |= {"position_sums": moved, "highest": regions.highest}
    job.store.write(_step(COMPONENTS, task.site, task.threshold), task.number, arrays)


def _merged(job: PointJob, step: str) -> Regions:
    """Return the sums over the voxels of the components of the volume, in raster order."""
    found = components.merge(job.blocks, lambda n, names: job.store.read(step, n, names))
    sums = np.zeros((len(found.sizes), len(job.blocks.shape)), np.int64)
    highest = np.zeros(len(found.sizes), np.float32)
    for number, numbers in enumerate(found.numbers):
        part = job.store.read(step, number, ["position_sums", "highest"])
        # labels without a voxel of their own add nothing, but may have no number either
        mine = numbers[1:] > 0
        rows = numbers[1:][mine] - 1
        np.add.at(sums, rows, part["position_sums"][mine])
        np.maximum.at(highest, rows, part["highest"][mine])
    return Regions(found.sizes, sums, highest)


@dataclass(frozen=True)
class PointTable:
    """A table of points as stages write it, in one part.

    Parameters
    ----------
    table : (n, 4 + axes) float64
        The points.
    """

    table: Points

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return self.table.shape

    def parts(self) -> Iterator[tuple[tuple[slice, ...], NDArray[Any]]]:
        """Yield all of the table."""
        yield (slice(0, self.shape[0]), slice(0, self.shape[1])), self.table

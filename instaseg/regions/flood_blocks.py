"""Flooding a volume in blocks: label by label what flooding the whole gives.

A block is flooded from its own seeds and from the voxels around it, as far as blocks beside it have
labelled them, at the costs they have there::

      block 0   ...........|o          o: seen by block 0, part of block 1
      block 1             o|...........|o

Where voxels at a block's border change, the blocks beside it are flooded again, until nothing does.
Costs and labels then agree at every voxel, and only one solution does so: that of the whole
(``docs/decisions/0008-flooding-in-blocks.md``). What a block found lies in a store, with a digest
of what it saw around it, so a run that was killed floods again only what has to be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.grid import BlockGrid
from instaseg.blockwise.tasks import BlockTask
from instaseg.blockwise.work import Run, Store
from instaseg.geometry import Box, whole
from instaseg.regions.flood import Flooded, Neighbours, Sources, flood_from


class Basin(NamedTuple):
    """What is flooded in a block, see :func:`~instaseg.regions.flood.flood`."""

    surface: NDArray[np.float32]
    seeds: NDArray[np.integer]
    mask: NDArray[np.bool_] | None


class BasinSource(Protocol):
    """Surface, seeds and mask of a volume, read block by block. Picklable."""

    def basin(self, number: int) -> Basin:
        """Return what is flooded in a block."""


@dataclass(frozen=True)
class FloodJob:
    """What the flooding of every block needs.

    Parameters
    ----------
    source : BasinSource
        Surface, seeds, which have the same numbers in all blocks, and mask.
    blocks : BlockGrid
        How the volume is cut.
    store : Store
        Where results of blocks are.
    step : str
        Name under which they are there; in the end each block has its ``labels``.
    neighbours : {"faces", "all"}
        Whether voxels that share an edge or a corner are neighbours too.
    lengths : tuple of int, optional
        How long a step along each axis is; all alike by default.
    """

    source: BasinSource
    blocks: BlockGrid
    store: Store
    step: str = "flooded"
    neighbours: Neighbours = "faces"
    lengths: tuple[int, ...] | None = None

    @property
    def finished(self) -> str:
        """Step that is in the store, for block 0, when no block changes any more."""
        return f"{self.step}_finished"


def flood_blocks(job: FloodJob, run: Run) -> None:
    """Flood all blocks, so that each has its ``labels`` in the store.

    Parameters
    ----------
    job : FloodJob
        The volume; results of blocks that are in the store are used.
    run : callable
        Runs a function on tasks of the blocks.
    """
    if job.store.has(job.finished, 0):
        return
    waiting = list(range(len(job.blocks)))
    rounds = 0
    while waiting:
        changed = run(flood_block, [BlockTask(job, n) for n in waiting], "flood")
        beside = (_beside(job, n) for n, told in zip(waiting, changed, strict=True) if told)
        waiting = sorted({number for numbers in beside for number in numbers})
        rounds += 1
    job.store.write(job.finished, 0, {"rounds": np.array(rounds)})


def _beside(job: FloodJob, number: int) -> list[int]:
    box = job.blocks.boxes[number].grow((1,) * len(job.blocks.shape))
    return [other for other in job.blocks.touching(box) if other != number]


def flood_block(task: BlockTask[FloodJob]) -> bool:
    """Flood a block from what it sees; return whether others see a change at its border."""
    job, number = task.job, task.number
    box = job.blocks.boxes[number]
    wide = box.grow((1,) * len(box.begin)).intersect(whole(job.blocks.shape))
    around = _around(job, number, wide)
    seen = _digest(around)
    known = job.store.has(job.step, number)
    if known and (job.store.read(job.step, number, ["seen"])["seen"] == seen).all():
        return False
    flooded = _flooded(job, job.source.basin(number), around, box.relative_to(wide).slices)
    faces: dict[str, NDArray[Any]] = dict(_faces(flooded, box.relative_to(wide).slices))
    before = job.store.read(job.step, number, list(faces)) if known else {}
    labels = flooded.labels[box.relative_to(wide).slices]
    job.store.write(job.step, number, {"labels": labels, "seen": seen, **faces})
    if not known:
        return any(face[_LABEL].any() for face in faces.values())
    return any((face != before[name]).any() for name, face in faces.items())


_HEIGHT, _STEPS, _LABEL = 0, 1, 2
"""What is told of a voxel to the blocks beside it, in this order, as float64, which holds all."""


def _faces(flooded: Flooded, core: tuple[slice, ...]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield height, steps and label on the first and the last plane along each axis, by name."""
    parts = (flooded.heights[core], flooded.steps[core], flooded.labels[core])
    told = np.stack([part.astype(np.float64) for part in parts])
    for axis in range(told.ndim - 1):
        for side, plane in (("lower", [0]), ("upper", [-1])):
            yield f"{side}_{axis}", told.take(plane, axis + 1)


def _around(job: FloodJob, number: int, wide: Box) -> NDArray[np.float64]:
    """Return height, steps and label ``(3, ...)`` of the voxels around a block; label 0 if none."""
    around = np.zeros((3, *wide.shape))
    box = job.blocks.boxes[number]
    for other in _beside(job, number):
        shared = job.blocks.boxes[other].intersect(wide)
        apart = [
            axis
            for axis in range(len(box.begin))
            if shared.begin[axis] >= box.end[axis] or shared.end[axis] <= box.begin[axis]
        ]
        over_edge = job.neighbours == "faces" and len(apart) > 1
        if over_edge or not job.store.has(job.step, other):
            continue
        axis = apart[0]
        side = "lower" if shared.begin[axis] >= box.end[axis] else "upper"
        face = job.store.read(job.step, other, [f"{side}_{axis}"])[f"{side}_{axis}"]
        inside = list(shared.relative_to(job.blocks.boxes[other]).slices)
        inside[axis] = slice(0, 1)
        around[(slice(None), *shared.relative_to(wide).slices)] = face[(slice(None), *inside)]
    return around


def _digest(around: NDArray[np.float64]) -> NDArray[np.uint8]:
    digest = hashlib.blake2b(np.ascontiguousarray(around).data, digest_size=16).digest()
    return np.frombuffer(digest, np.uint8)


def _flooded(
    job: FloodJob, basin: Basin, around: NDArray[np.float64], core: tuple[slice, ...]
) -> Flooded:
    """Flood a block, within the voxels around it."""
    shape = around.shape[1:]
    inside = np.ones(basin.surface.shape, bool) if basin.mask is None else basin.mask
    surface, empty = np.zeros(shape, np.float32), np.zeros(shape, bool)
    surface[core], empty[core] = basin.surface, inside & (basin.seeds == 0)
    known = around.copy()
    known[_STEPS][core] = 0
    known[_LABEL][core] = np.where(inside, basin.seeds, 0)
    known[_HEIGHT][core] = basin.surface
    flat = known.reshape(3, -1)
    places = np.flatnonzero(flat[_LABEL])
    sources = Sources(
        places=places,
        labels=flat[_LABEL, places].astype(np.int32),
        heights=flat[_HEIGHT, places].astype(np.float32),
        steps=flat[_STEPS, places].astype(np.int32),
    )
    return flood_from(surface, empty, sources, neighbours=job.neighbours, lengths=job.lengths)


def labels_of(job: FloodJob, number: int) -> NDArray[np.int32]:
    """Return the labels of a block, after :func:`flood_blocks`."""
    labels: NDArray[Any] = job.store.read(job.step, number, ["labels"])["labels"]
    return np.asarray(labels, dtype=np.int32)

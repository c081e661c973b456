"""Star shapes of a volume in blocks: candidates per block, one choice, paint per block.

Which shapes remain is decided for the volume at once, best first; candidates are held in memory,
not their voxels' values::

    candidates (b + halo) -> sort, drop overlapping (all candidates) -> paint (shapes that reach b)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.grid import read_every, within
from instaseg.geometry import Box
from instaseg.methods.channels import star_shapes
from instaseg.methods.channels.block_steps import (
    LABELS,
    SURFACE,
    ChannelsJob,
    ChannelsTask,
    growth_mask,
)
from instaseg.methods.channels.star_shapes import Shapes
from instaseg.regions.flood_blocks import Basin

CANDIDATES, CHOSEN, PAINTED = "candidates", "chosen_shapes", "painted"
"""Names of the steps in the store."""


def find_candidates(task: ChannelsTask) -> None:
    """Store the star shapes whose middle lies in a block."""
    job, number = task.job, task.number
    image, core = job.part(number)
    found = image.candidates(job.plan, job.labelling)
    box = _lifted(job.blocks.boxes[number])
    middles = found.middles + (np.array(box.begin, np.int64) - _starts(core))
    mine = within(middles, box)
    job.store.write(
        CANDIDATES,
        number,
        {"middles": middles[mine], "scores": found.scores[mine], "corners": found.corners[mine]},
    )


def _lifted(box: Box) -> Box:
    """Return a box of an image as one of a volume of one slice."""
    flat = 3 - len(box.begin)
    return Box((0,) * flat + box.begin, (1,) * flat + box.end)


def _starts(core: tuple[slice, ...]) -> NDArray[np.int64]:
    return np.array([0] * (3 - len(core)) + [one.start for one in core], np.int64)


def choose(job: ChannelsJob) -> None:
    """Store which star shapes of the volume remain, for every block those that reach into it."""
    if job.store.has(CHOSEN, 0):
        return
    every = read_every(job.store, CANDIDATES, job.blocks)
    order = np.lexsort((*every["middles"].T[::-1], -every["scores"]))
    faces = star_shapes.faces_of(every["corners"].shape[1], len(job.blocks.shape))
    ordered = {name: values[order] for name, values in every.items()}
    shapes = Shapes(ordered["middles"], ordered["scores"], ordered["corners"], faces)
    kept = star_shapes.drop_overlapping(shapes, job.blocks.shape, job.labelling.star_overlap)
    lows, highs = star_shapes.bounding_boxes(kept)
    for number in reversed(range(len(job.blocks))):
        box = _lifted(job.blocks.boxes[number])
        near = np.flatnonzero(((lows < box.end) & (highs > box.begin)).all(axis=1))
        job.store.write(
            CHOSEN,
            number,
            {
                "numbers": near + 1,
                "middles": kept.middles[near],
                "scores": kept.scores[near],
                "corners": kept.corners[near],
            },
        )


def painted_in(job: ChannelsJob) -> str:
    """Return the step of painted star shapes, which are the labels unless the mask is shared."""
    return LABELS if job.labelling.star_paint == "shape" else PAINTED


def paint_block(task: ChannelsTask) -> None:
    """Store the star shapes in a block, by their numbers in the volume."""
    job, number = task.job, task.number
    box = job.blocks.boxes[number]
    near = job.store.read(CHOSEN, number)
    faces = star_shapes.faces_of(near["corners"].shape[1], len(box.begin))
    middles = near["middles"] - np.array(_lifted(box).begin)
    shapes = Shapes(middles, near["scores"], near["corners"], faces)
    places = star_shapes.paint(shapes, box.shape)
    numbers = np.concatenate([[0], near["numbers"]]).astype(np.int32)
    job.store.write(painted_in(job), number, {"labels": numbers[places]})


@dataclass(frozen=True)
class ShapeBasins:
    """Surface, painted star shapes as seeds, and mask of the blocks."""

    job: ChannelsJob

    def basin(self, number: int) -> Basin:
        """Return what is flooded in a block."""
        job = self.job
        surface = job.store.read(SURFACE, number)[SURFACE]
        seeds = job.store.read(PAINTED, number)["labels"]
        return Basin(surface, seeds, growth_mask(job, number))

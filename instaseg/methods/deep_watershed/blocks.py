"""Cutting a volume that does not fit in memory: block by block, and the same as whole.

::

    parts of each block ── merge ── number them ── flood, in rounds ── labels
         b + 1                          b              b

Parts of a block are those of what is deeper than the cut; merging them by their planes gives the
seeds of the whole volume and their sizes, with the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise import components
from instaseg.blockwise.grid import BlockGrid
from instaseg.blockwise.tasks import BlockTask, every_block, run_missing
from instaseg.blockwise.work import BlockLabels, BlockWork, Store
from instaseg.errors import ConfigError
from instaseg.geometry import Box, Coordinate
from instaseg.methods.deep_watershed.config import LabelSettings
from instaseg.methods.deep_watershed.decoding import Evidence
from instaseg.regions.flood import step_lengths
from instaseg.regions.flood_blocks import Basin, FloodJob, flood_blocks, labels_of

_PARTS, _NUMBERS, _FLOODED = "parts", "numbers", "flooded"


class EvidenceSource(Protocol):
    """A stored prediction, read box by box. Picklable."""

    @property
    def shape(self) -> Coordinate:
        """The volume ``([z,] y, x)`` in voxels."""

    def read(self, box: Box) -> Evidence:
        """Return depth and foreground in a box inside the volume."""


@dataclass(frozen=True)
class CutJob:
    """What the work on every block needs.

    Parameters
    ----------
    source : EvidenceSource
        Predictions.
    settings : LabelSettings
        Table ``[vote_instances]``.
    blocks : BlockGrid
        How the volume is cut.
    store : Store
        Where results of blocks are.
    """

    source: EvidenceSource
    settings: LabelSettings
    blocks: BlockGrid
    store: Store

    def deep(self, evidence: Evidence) -> NDArray[np.bool_]:
        """Return what is deeper than the cut."""
        settings = self.settings
        foreground = evidence.foreground > np.float32(settings.fg_threshold)
        return (evidence.depth > np.float32(settings.cut)) & foreground

    def basin(self, number: int) -> Basin:
        """Return what is flooded in a block."""
        box = self.blocks.boxes[number]
        wide = self.source.read(self.blocks.read_box(number))
        core = tuple(slice(0, n) for n in box.shape)
        numbers = self.store.read(_NUMBERS, number, ["numbers"])["numbers"]
        seeds = numbers[components.local_labels(self.deep(wide), self.settings.neighbours)][core]
        mask = wide.foreground[core] > np.float32(self.settings.fg_threshold)
        if self.settings.grow == "none":
            mask = np.zeros_like(mask)
        return Basin(-wide.depth[core], seeds, mask | (seeds > 0))


@dataclass(frozen=True)
class CutLabels:
    """Labels of a volume, in a store."""

    job: FloodJob

    @property
    def shape(self) -> Coordinate:
        """``([z,] y, x)``."""
        return self.job.blocks.shape

    def parts(self) -> Iterator[tuple[tuple[slice, ...], NDArray[np.int32]]]:
        """Yield places and their labels."""
        for number, box in enumerate(self.job.blocks.boxes):
            labels = labels_of(self.job, number)
            if labels.any():
                yield box.slices, labels


def find_parts(task: BlockTask[CutJob]) -> None:
    """Store the parts of a block that are deeper than the cut."""
    job, number = task.job, task.number
    values = job.deep(job.source.read(job.blocks.read_box(number)))
    core = job.blocks.boxes[number].shape
    found = components.label_block(
        values.astype(np.uint8), core, neighbours=job.settings.neighbours
    )
    job.store.write(_PARTS, number, found)


def label_blocks(
    source: EvidenceSource, settings: LabelSettings, work: BlockWork, spacing: Sequence[float]
) -> BlockLabels:
    """Label a stored prediction block by block, as :func:`~.decoding.find_instances` does.

    Parameters
    ----------
    source : EvidenceSource
        Predictions.
    settings : LabelSettings
        Table ``[vote_instances]``.
    work : BlockWork
        Shape of the blocks, where their results are kept, and what runs them.
    spacing : sequence of float
        Size of a voxel along each axis, in physical units.

    Raises
    ------
    ConfigError
        For settings that need whole instances.
    """
    check_parameters(settings)
    job = CutJob(source, settings, BlockGrid(source.shape, tuple(work.block_shape)), work.store)
    run_missing(work.run, find_parts, every_block(job), _PARTS)
    found = components.merge(job.blocks, lambda n, names: work.store.read(_PARTS, n, names))
    kept = found.sizes >= settings.min_size
    numbers = np.concatenate([[0], np.where(kept, np.cumsum(kept), 0)]).astype(np.int32)
    for number, own in enumerate(found.numbers):
        work.store.write(_NUMBERS, number, {"numbers": numbers[own]})
    lengths = step_lengths(tuple(spacing))
    flood = FloodJob(job, job.blocks, work.store, _FLOODED, settings.neighbours, lengths)
    flood_blocks(flood, work.run)
    return CutLabels(flood)


def check_parameters(settings: LabelSettings) -> None:
    """Check that settings do not need the whole of a prediction.

    Raises
    ------
    ConfigError
        If they do; names them.
    """
    needed = {
        "grow": settings.grow in ("nearest", "dilate"),
        "grow_most": settings.grow_most is not None,
        "seed_cut": settings.seed_cut is not None,
        "unseeded": settings.unseeded != "drop",
        "fill_holes": settings.fill_holes > 0,
        "min_score": settings.min_score > 0,
        "max_direction_error": settings.max_direction_error is not None,
    }
    wrong = [f"{name} = {getattr(settings, name)}" for name, is_set in needed.items() if is_set]
    if wrong:
        raise ConfigError(
            "[vote_instances]: expected settings that volumes can be labelled with in blocks, found"
            f" {', '.join(wrong)}; leave them out (grow = 'flood' or 'none')"
        )

"""Decoding of volumes that do not fit in memory: block by block, and the same as whole.

Every pass runs over all blocks before the next begins; what a pass leaves for a block is in a
store, so a run that was killed goes on with what is missing::

    count values -> thresholds -> masks, surface -> components -> seeds -> flood -> measure
       b + halo       whole          b + halo         b + 1         b      rounds      b

Between passes stand numbers only: sums of counts, components by their planes, sizes. Seeds get the
numbers that they get in the whole, since equal ways are decided by them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.grid import BlockGrid, automatic_block_shape, read_every
from instaseg.blockwise.work import BlockWork, Run
from instaseg.errors import ConfigError
from instaseg.geometry import Coordinate
from instaseg.io.stored_heads import StoredHeads
from instaseg.methods.base import Head
from instaseg.methods.channels import affinity_graph, block_flows, block_stars, block_steps, steps
from instaseg.methods.channels.block_passes import (
    merged,
    merged_components,
    run_of_mask,
    run_pass,
    tell,
)
from instaseg.methods.channels.block_steps import ChannelsJob
from instaseg.methods.channels.config import ChannelsSettings, LabelSettings
from instaseg.methods.channels.presets import make_plan
from instaseg.methods.channels.registry import channels_of
from instaseg.regions.flood_blocks import flood_blocks
from instaseg.regions.thresholds import ValueCounts, sum_counts

MOST_BYTES = 2**32
"""Memory in which a prediction is decoded as a whole; larger ones in blocks of half of it."""
_BYTES_OF_STEPS = 104
"""Memory of seeds, masks, surface and flooding, for each voxel."""
_BYTES_OF_VALUE = 6
"""Memory of a component of a channel as stored and as a number, for each voxel."""
_LEAST_SIDE = 32
"""Blocks are not halved below this side: halos would outweigh them."""


def block_shape(shape: Sequence[int], heads: Sequence[Head]) -> Coordinate | None:
    """Return a block of a prediction of `shape` that fits in memory; None if all of it does.

    Parameters
    ----------
    shape : sequence of int
        ``([z,] y, x)`` in voxels.
    heads : sequence of Head
        What is predicted.
    """
    each = _BYTES_OF_STEPS + _BYTES_OF_VALUE * sum(head.channels for head in heads)
    if each * math.prod(shape) <= MOST_BYTES:
        return None
    most = MOST_BYTES // 2 // each
    return automatic_block_shape(shape, most=most, least=(_LEAST_SIDE,) * len(shape))


def label_blocks(
    path: Path,
    parameters: LabelSettings,
    work: BlockWork,
    *,
    settings: ChannelsSettings,
    spacing: Sequence[float],
) -> Numbered:
    """Label a stored prediction block by block; labels are those of the whole.

    Parameters
    ----------
    path : Path
        Zarr folder of the prediction.
    parameters : LabelSettings
        Table ``[vote_instances]``.
    work : BlockWork
        Shape of the blocks, where their results are kept, and what runs them.
    settings : ChannelsSettings
        Table ``[method]``.
    spacing : sequence of float
        Size of a voxel along each axis, in physical units.

    Raises
    ------
    ConfigError
        As :func:`check_parameters`.
    StageError
        If blocks fail; the others are finished and kept.
    """
    check_parameters(parameters, settings)
    channels = channels_of(settings, len(spacing))
    source = StoredHeads(path, {one.name: one.key for one in channels})
    job = ChannelsJob(
        source=source,
        settings=settings,
        labelling=parameters,
        spacing=tuple(spacing),
        blocks=BlockGrid(source.shape, tuple(work.block_shape)),
        store=work.store,
        plan=make_plan(settings, parameters, spacing),
    )
    job = _with_thresholds(job, work.run)
    run_pass(job, work.run, block_steps.prepare_block, block_steps.PREPARED)
    match job.plan.decoder:
        case "watershed" | "affinities":
            _flood_seeds(job, work.run)
        case "stars":
            _paint_stars(job, work.run)
        case "flow":
            block_flows.label_flows(job, work.run)
    run_pass(job, work.run, block_steps.measure_block, block_steps.MEASURED)
    return _numbered(job)


def check_parameters(parameters: LabelSettings, settings: ChannelsSettings) -> None:
    """Check that parameters do not need the whole of a prediction.

    Parameters
    ----------
    parameters : LabelSettings
        Table ``[vote_instances]``.
    settings : ChannelsSettings
        Table ``[method]``.

    Raises
    ------
    ConfigError
        If single voxels are to be partitioned, or the maps written that instances are made from.
    """
    if parameters.partition == "voxels" and "affinities" in settings.channels:
        raise ConfigError(
            '[vote_instances] partition: expected "fragments" where a volume is labelled in blocks,'
            ' found "voxels", which needs all of it in memory; change it'
        )
    if parameters.check_files == "write":
        raise ConfigError(
            '[vote_instances] check_files: expected "none" where a volume is labelled in blocks,'
            ' found "write", which needs all of it in memory; change it'
        )


@dataclass(frozen=True)
class Numbered:
    """Labels of a volume, in a store.

    Parameters
    ----------
    job : ChannelsJob
        What was labelled.
    numbers : ndarray of int32
        Final label by that in the store; 0 stays 0.
    """

    job: ChannelsJob
    numbers: NDArray[np.int32]

    @property
    def shape(self) -> Coordinate:
        """``([z,] y, x)``."""
        return self.job.blocks.shape

    def parts(self) -> Iterator[tuple[tuple[slice, ...], NDArray[np.int32]]]:
        """Yield places and their labels."""
        for number, box in enumerate(self.job.blocks.boxes):
            labels = self.numbers[block_steps.read_labels(self.job, number)]
            if labels.any():
                yield box.slices, labels


def _with_thresholds(job: ChannelsJob, run: Run) -> ChannelsJob:
    """Return the job with numbers as thresholds, from the values of the whole volume."""
    names = steps.needs_counts(job.plan)
    counts: dict[str, ValueCounts] = {}
    if names:
        run_pass(job, run, block_steps.count_block, block_steps.COUNTED)
    for name in names:
        wanted = [f"{name}.values", f"{name}.counts"]
        parts = (job.store.read(block_steps.COUNTED, n, wanted) for n in range(len(job.blocks)))
        counts[name] = sum_counts(parts, f"{name}.")
    channels = {one.name: one for one in channels_of(job.settings, len(job.spacing))}
    return replace(job, plan=steps.with_numbers(job.plan, counts, channels))


def _tell_unseeded(job: ChannelsJob, run: Run, mask: str, *, first: int) -> None:
    """Give components of a mask without a seed the numbers from `first` on, and others 0."""
    found = merged_components(job, run, mask)
    count = len(found.sizes)
    tell(job, mask, found, np.arange(count + 1))
    step = block_steps.seeded_of(mask)
    run_of_mask(job, run, block_steps.find_seeded, step, mask=mask)
    free = np.ones(count + 1, bool)
    free[0] = False
    for n in range(len(job.blocks)):
        free[job.store.read(step, n)["seeded"]] = False
    tell(job, mask, found, np.where(free, np.arange(count + 1) + first - 1, 0))


def _flood_seeds(job: ChannelsJob, run: Run) -> None:
    """Find the seeds of the volume, flood it, and join fragments if they are of affinities."""
    found = merged_components(job, run, block_steps.CHOSEN)
    count = len(found.sizes)
    kept = found.sizes >= job.labelling.min_seed / job.voxel
    numbers = np.concatenate([[0], np.where(kept, np.arange(1, count + 1), 0)])
    tell(job, block_steps.CHOSEN, found, numbers)
    if block_steps.grows_unseeded(job):
        _tell_unseeded(job, run, block_steps.MASK, first=count + 1)
    run_pass(job, run, block_steps.make_seeds, block_steps.SEEDS)
    if job.plan.background == "unseeded":
        _tell_unseeded(job, run, block_steps.LOW, first=1)
    seeds, background = _order_seeds(job)
    flood_blocks(job.flooding(block_steps.SeedBasins(job)), run)
    if background:
        joined = np.arange(background + 1)
        joined[background] = 0
        job.store.write(block_steps.JOINED, 0, {"numbers": joined})
    if job.plan.decoder == "affinities":
        run_pass(job, run, block_steps.sum_evidence, block_steps.EVIDENCE)
        instances = affinity_graph.join_fragments(_all_evidence(job), seeds)
        job.store.write(block_steps.JOINED, 0, {"numbers": instances})


def _order_seeds(job: ChannelsJob) -> tuple[int, int]:
    """Store the numbers of seeds in the order of their first voxels, and which are background.

    Returns
    -------
    seeds : int
        How many seeds instances have.
    background : int
        Number of the background's seed; 0 without one.
    """
    found = merged(job, block_steps.SEEDS)
    outside = np.zeros(len(found.ids), bool)
    if job.plan.background == "outside":
        outside = steps.are_outside(found.outer, found.sizes, job.labelling, job.voxel)
    numbers = found.numbers(~outside)
    seeds = int(numbers.max(initial=0))
    background = 0 if job.plan.background == "none" else seeds + 1
    flags = np.zeros(len(numbers), bool)
    flags[found.ids] = outside
    job.store.write(
        block_steps.ORDER,
        0,
        {"numbers": numbers, "outside": flags, "background": np.array(background)},
    )
    return seeds, background


def _all_evidence(job: ChannelsJob) -> affinity_graph.PairEvidence:
    """Return the evidence of all blocks, each pair of fragments once."""
    every = read_every(job.store, block_steps.EVIDENCE, job.blocks)
    none = np.zeros(0, np.int64)
    nothing = affinity_graph.PairEvidence(np.zeros((0, 2), np.int64), none, none)
    return affinity_graph.PairEvidence(every["pairs"], every["sums"], every["counts"]) + nothing


def _paint_stars(job: ChannelsJob, run: Run) -> None:
    """Find the star shapes of the volume, paint them, and share the mask among them if asked to."""
    run_pass(job, run, block_stars.find_candidates, block_stars.CANDIDATES)
    block_stars.choose(job)
    painted = block_stars.painted_in(job)
    run_pass(job, run, block_stars.paint_block, painted)
    if painted != block_steps.LABELS:
        flood_blocks(job.flooding(block_stars.ShapeBasins(job)), run)


def _numbered(job: ChannelsJob) -> Numbered:
    """Return the labels without small ones, numbered by their first voxels."""
    found = merged(job, block_steps.MEASURED)
    return Numbered(job, found.numbers(found.sizes >= job.labelling.min_object / job.voxel))

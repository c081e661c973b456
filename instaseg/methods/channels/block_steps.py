"""The steps from stored channels to labels for one block: what it reads, what it leaves.

Steps of the whole image (:mod:`instaseg.methods.channels.decoding`) run on a block with so much
around it that the block itself comes out as it does in the whole; what concerns the whole is
numbered by :mod:`instaseg.methods.channels.blocks` from what blocks leave in the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.components import label_block, local_labels
from instaseg.blockwise.grid import BlockGrid, pack, read_mask, read_part
from instaseg.blockwise.tasks import BlockTask
from instaseg.blockwise.work import Store
from instaseg.geometry import Box, Coordinate, whole
from instaseg.io.quantise import dequantise
from instaseg.io.stored_heads import StoredHeads
from instaseg.methods.channels import affinity_graph, steps
from instaseg.methods.channels.config import ChannelsSettings, LabelSettings
from instaseg.methods.channels.decoding import Image
from instaseg.methods.channels.presets import Plan
from instaseg.methods.channels.registry import channels_of
from instaseg.regions import morphology
from instaseg.regions.flood import Neighbours
from instaseg.regions.flood_blocks import Basin, BasinSource, FloodJob
from instaseg.regions.thresholds import count_values

COUNTED, PREPARED, MEASURED = "counted", "prepared", "measured"
CHOSEN, MASK, SURE, FAR, LOW = "chosen", "mask", "sure", "far", "low"
SURFACE, SEEDS, ORDER = "surface", "seeds", "order"
LABELS, EVIDENCE, JOINED = "labels", "evidence", "joined"
"""Names of the steps in the store."""


@dataclass(frozen=True)
class ChannelsJob:
    """What every step of a volume's blocks needs.

    Parameters
    ----------
    source : StoredHeads
        The prediction.
    settings : ChannelsSettings
        Table ``[method]``.
    labelling : LabelSettings
        Table ``[vote_instances]``.
    spacing : tuple of float
        Size of a voxel along each axis, in physical units.
    blocks : BlockGrid
        How the volume is cut.
    store : Store
        Where results of blocks are.
    plan : Plan
        What is done; with numbers as thresholds after the values are counted.
    """

    source: StoredHeads
    settings: ChannelsSettings
    labelling: LabelSettings
    spacing: tuple[float, ...]
    blocks: BlockGrid
    store: Store
    plan: Plan

    @property
    def voxel(self) -> float:
        """Area or volume of a voxel, in physical units."""
        return float(np.prod(self.spacing))

    def flooding(self, basins: BasinSource) -> FloodJob:
        """Return what the flooding of every block needs."""
        lengths = steps.flood_lengths(self.plan, self.spacing)
        return FloodJob(basins, self.blocks, self.store, LABELS, lengths=lengths)

    @property
    def offsets(self) -> tuple[Coordinate, ...]:
        """Offsets of the affinities; none without."""
        named = {one.name: one for one in channels_of(self.settings, len(self.spacing))}
        return named["affinities"].offsets if "affinities" in named else ()

    @property
    def halo(self) -> Coordinate:
        """Voxels around a block that decide what its voxels become."""
        near = [self.offsets[n] for n in affinity_graph.nearest_pairs(self.offsets)]
        pairs = np.abs(np.array(near or [(0,) * len(self.spacing)])).max(axis=0)
        peaks = morphology.reach(self.labelling.star_peaks * min(self.spacing), self.spacing)
        local = steps.halo(self.plan, self.labelling, self.spacing)
        return tuple(int(sum(each)) for each in zip(local, peaks, pairs, strict=True))

    def part(self, number: int) -> tuple[Image, tuple[slice, ...]]:
        """Return a block with what is around it, and where in it the block is."""
        core = self.blocks.boxes[number]
        wide = core.grow(self.halo).intersect(whole(self.blocks.shape))
        image = Image(self.source.read(wide), self.settings, self.spacing)
        return image, core.relative_to(wide).slices


ChannelsTask = BlockTask[ChannelsJob]
"""One block of a step."""


@dataclass(frozen=True)
class MaskTask(ChannelsTask):
    """One block of a step that concerns one of several masks, which is named as in the store."""

    mask: str


def count_block(task: ChannelsTask) -> None:
    """Store how often each value of the maps occurs whose thresholds are found from them."""
    image, core = task.job.part(task.number)
    arrays: dict[str, NDArray[Any]] = {}
    for name in steps.needs_counts(task.job.plan):
        counted = count_values(image.map(name)[core])
        arrays |= counted.arrays(f"{name}.")
    task.job.store.write(COUNTED, task.number, arrays)


def prepare_block(task: ChannelsTask) -> None:
    """Store masks and surface of a block, as far as the decoder uses them."""
    job, number = task.job, task.number
    image, core = job.part(number)
    plan, settings, spacing = job.plan, job.labelling, job.spacing
    values = image.values(plan)
    masks: dict[str, NDArray[np.bool_] | None] = {MASK: image.mask(plan, settings)}
    if plan.decoder in ("watershed", "affinities"):
        masks[CHOSEN] = image.chosen(plan, settings)
        if settings.unseeded == "keep":
            masks[SURE] = steps.sure_foreground(values, plan)
    if plan.background in ("far", "unseeded"):
        masks[FAR] = steps.background_far(values, plan, settings, spacing)
    if plan.background == "unseeded":
        assert plan.background_seed is not None
        masks[LOW] = steps.holds(values, plan.background_seed)
    for step, mask in masks.items():
        if mask is not None:
            job.store.write(step, number, pack(mask[core]))
    if plan.decoder != "flow":
        job.store.write(SURFACE, number, {SURFACE: image.surface(plan, settings)[core]})
    # last: it says that the block is done
    job.store.write(PREPARED, number, {})


def components_of(mask: str) -> str:
    """Return the step that holds the components of a mask, as blocks see them."""
    return f"{mask}_components"


def numbers_of(mask: str) -> str:
    """Return the step that holds what becomes of each of a block's components of a mask."""
    return f"{mask}_numbers"


def seeded_of(mask: str) -> str:
    """Return the step that holds which components of a mask have a seed in a block."""
    return f"{mask}_seeded"


def find_components(task: MaskTask, neighbours: Neighbours = "faces") -> None:
    """Store the connected components of a mask in a block."""
    job, number = task.job, task.number
    mask = read_mask(job.store, task.mask, job.blocks, job.blocks.read_box(number))
    found = label_block(mask, job.blocks.boxes[number].shape, neighbours=neighbours)
    job.store.write(components_of(task.mask), number, found)


def numbered_components(
    job: ChannelsJob, mask: str, number: int, neighbours: Neighbours = "faces"
) -> NDArray[np.int64]:
    """Return the components of a mask in a block, by the numbers in the store."""
    read = job.blocks.read_box(number)
    labels = local_labels(read_mask(job.store, mask, job.blocks, read), neighbours)
    numbers = job.store.read(numbers_of(mask), number)["numbers"]
    core = job.blocks.boxes[number].relative_to(read).slices
    return np.asarray(numbers[labels[core]], dtype=np.int64)


def find_seeded(task: MaskTask) -> None:
    """Store which components of a mask hold a seed in a block."""
    job, number = task.job, task.number
    if task.mask == LOW:
        seeds = job.store.read(SEEDS, number, [SEEDS])[SEEDS]
    else:
        seeds = numbered_components(job, CHOSEN, number)
    found = np.unique(numbered_components(job, task.mask, number)[seeds > 0])
    job.store.write(seeded_of(task.mask), number, {"seeded": found[found > 0]})


def make_seeds(task: ChannelsTask) -> None:
    """Store the seeds of a block, not in their final order, and what they measure.

    Where parts of the mask without a seed are kept, their sure voxels are seeds as well.
    """
    job, number = task.job, task.number
    box = job.blocks.boxes[number]
    seeds = numbered_components(job, CHOSEN, number)
    if grows_unseeded(job):
        added = numbered_components(job, MASK, number)
        if job.store.has(SURE, number):
            added[~read_mask(job.store, SURE, job.blocks, box)] = 0
        seeds = np.where(added > 0, added, seeds)
    arrays = measure(seeds, box, job.blocks.shape)
    job.store.write(SEEDS, number, {SEEDS: seeds.astype(np.int32), **arrays})


def grows_unseeded(job: ChannelsJob) -> bool:
    """Return whether parts of the mask without a seed become instances."""
    return bool(job.plan.mask) and job.labelling.unseeded == "keep"


def measure(labels: NDArray[Any], box: Box, shape: Coordinate) -> dict[str, NDArray[Any]]:
    """Return what is in a block, for :func:`instaseg.methods.channels.blocks.merged`.

    Returns
    -------
    dict of ndarray
        ``ids``, ``sizes``, ``firsts`` (index of the first voxel in the flattened volume) and
        ``outer`` (whether a voxel lies at the volume's border) of labels that are not 0.
    """
    ids, first, place, sizes = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    outer = np.zeros(len(ids), bool)
    place = place.reshape(labels.shape)
    for axis, size in enumerate(shape):
        if size > 1:
            for end, plane in ((box.begin[axis] == 0, 0), (box.end[axis] == size, -1)):
                outer[place.take(plane, axis) if end else []] = True
    where = [i + b for i, b in zip(np.unravel_index(first, labels.shape), box.begin, strict=True)]
    firsts = np.ravel_multi_index(where, shape).astype(np.int64)
    found = ids > 0
    arrays = {"ids": ids.astype(np.int64), "sizes": sizes, "firsts": firsts, "outer": outer}
    return {name: values[found] for name, values in arrays.items()}


@dataclass(frozen=True)
class SeedBasins:
    """Surface, seeds in their final order, and mask of the blocks: what is flooded."""

    job: ChannelsJob

    def basin(self, number: int) -> Basin:
        """Return what is flooded in a block."""
        job = self.job
        order = job.store.read(ORDER, 0)
        found = job.store.read(SEEDS, number, [SEEDS])[SEEDS]
        background = order["outside"][found]
        if job.plan.background != "outside" and job.store.has(FAR, number):
            background |= _bits(job, FAR, number) & (found == 0)
        if job.plan.background == "unseeded":
            background |= numbered_components(job, LOW, number) > 0
        seeds = np.where(background, order["background"], order["numbers"][found])
        return Basin(_surface(job, number), seeds.astype(np.int32), growth_mask(job, number))


def _surface(job: ChannelsJob, number: int) -> NDArray[np.float32]:
    return np.asarray(job.store.read(SURFACE, number)[SURFACE], dtype=np.float32)


def _bits(job: ChannelsJob, mask: str, number: int) -> NDArray[np.bool_]:
    return read_mask(job.store, mask, job.blocks, job.blocks.boxes[number])


def growth_mask(job: ChannelsJob, number: int) -> NDArray[np.bool_] | None:
    """Return where instances may be in a block; None where that is everywhere."""
    return _bits(job, MASK, number) if job.plan.mask else None


def read_labels(job: ChannelsJob, number: int) -> NDArray[np.int32]:
    """Return the labels of a block, not in their final order."""
    labels = job.store.read(LABELS, number, ["labels"])["labels"]
    if job.store.has(JOINED, 0):
        labels = job.store.read(JOINED, 0)["numbers"][labels]
    return np.asarray(labels, dtype=np.int32)


def measure_block(task: ChannelsTask) -> None:
    """Store what the instances in a block measure."""
    job, number = task.job, task.number
    arrays = measure(read_labels(job, number), job.blocks.boxes[number], job.blocks.shape)
    job.store.write(MEASURED, number, arrays)


def sum_evidence(task: ChannelsTask) -> None:
    """Store what the affinities of a block's voxels say of pairs of fragments.

    The other voxel of a pair may lie in another block.
    """
    job, number = task.job, task.number
    box, space = job.blocks.boxes[number], whole(job.blocks.shape)
    none = np.zeros(0, np.int64)
    found = affinity_graph.PairEvidence(np.zeros((0, 2), np.int64), none, none)
    for index, offset in enumerate(job.offsets):
        hull = Box(
            tuple(b + min(o, 0) for b, o in zip(box.begin, offset, strict=True)),
            tuple(e + max(o, 0) for e, o in zip(box.end, offset, strict=True)),
        ).intersect(space)
        fragments = read_part(job.store, LABELS, job.blocks, hull, name="labels")
        stored = job.source.component("affinities", hull, slice(index, index + 1))
        found = found + affinity_graph.evidence(dequantise(stored), [offset], fragments)
    job.store.write(
        EVIDENCE, number, {"pairs": found.pairs, "sums": found.sums, "counts": found.counts}
    )

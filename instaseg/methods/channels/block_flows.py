"""Flows of a volume in blocks: particles are handed from block to block until all stand.

A block moves the particles that start in it, and those handed to it, as long as they are within its
reach; a particle that leaves is handed to the block where it is by then::

      block 0   |............|rrrr       r: reach of block 0
      block 1           rrrr|............|
                              a particle that comes back from here has some way to go

so particles that go to and fro at a face are not handed over again and again. Where particles end
are hits; their peaks are the instances, flooded over the hits as in the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from instaseg.blockwise.grid import concatenated, pack, read_mask, read_part
from instaseg.blockwise.tasks import BlockTask, run_missing
from instaseg.blockwise.work import Run
from instaseg.geometry import Box, whole
from instaseg.io.quantise import dequantise
from instaseg.methods.channels import flow_paths
from instaseg.methods.channels.block_passes import merged_components, run_pass, tell
from instaseg.methods.channels.block_steps import (
    JOINED,
    LABELS,
    MASK,
    ChannelsJob,
    ChannelsTask,
    numbered_components,
)
from instaseg.methods.channels.flow_paths import Particles
from instaseg.methods.channels.instances import Instances
from instaseg.methods.channels.targets_flows import flow
from instaseg.regions.flood_blocks import Basin, FloodJob, flood_blocks

REACH = 16
"""Voxels beyond a block in which it moves particles."""

MOVED, ENDS, HITS, PEAKS, GROUPS = "moved", "ends", "hits", "peaks", "groups"
EXTENTS, ERRORS = "extents", "flow_errors"
"""Names of the steps in the store."""


@dataclass(frozen=True)
class MoveTask(BlockTask[ChannelsJob]):
    """One round of one block.

    Parameters
    ----------
    turn : int
        The round, from 0, in which particles start.
    senders : tuple of int
        Blocks that handed particles over in the round before.
    """

    turn: int = 0
    senders: tuple[int, ...] = ()


@dataclass(frozen=True)
class CollectTask(BlockTask[ChannelsJob]):
    """One block, and the rounds and blocks in which particles came to stand that concern it."""

    moved: tuple[tuple[int, int], ...]


def label_flows(job: ChannelsJob, run: Run) -> None:
    """Store the labels of every block."""
    moved = _move_all(job, run)
    _collect(job, run, moved)
    run_pass(job, run, find_peaks, PEAKS)
    found = merged_components(job, run, PEAKS, "all")
    tell(job, PEAKS, found, np.arange(len(found.sizes) + 1))
    flood = FloodJob(HitBasins(job), job.blocks, job.store, GROUPS, neighbours="all")
    flood_blocks(flood, run)
    run_pass(job, run, label_ends, LABELS)
    if job.labelling.flow_error is not None:
        _drop_wrong(job, run, job.labelling.flow_error)


def _move_all(job: ChannelsJob, run: Run) -> list[tuple[int, int]]:
    """Move all particles; return the rounds and blocks in which some came to stand."""
    moved: list[tuple[int, int]] = []
    senders: dict[int, list[int]] = {number: [] for number in range(len(job.blocks))}
    turn = 0
    while senders:
        tasks = [MoveTask(job, n, turn, tuple(s)) for n, s in sorted(senders.items())]
        step, moved_here = moved_in(turn), [task.number for task in tasks]
        run_missing(run, move_block, tasks, step, "follow flow")
        moved += [(turn, number) for number in moved_here]
        senders = {}
        for number in moved_here:
            for other in job.store.read(step, number, ["receivers"])["receivers"].tolist():
                senders.setdefault(other, []).append(number)
        turn += 1
    return moved


def moved_in(turn: int) -> str:
    """Return the step of a round."""
    return f"{MOVED}_{turn:03d}"


def move_block(task: MoveTask) -> None:
    """Move the particles of a block; store those that stand, and those that are handed over."""
    job, number = task.job, task.number
    particles, homes = _arrived(task)
    box = job.blocks.boxes[number]
    wide = box.grow((REACH + 1,) * len(box.begin)).intersect(whole(job.blocks.shape))
    stands = np.zeros(0, bool)
    if len(homes):
        mask = read_mask(job.store, MASK, job.blocks, wide)
        flow = dequantise(job.source.component("flow", wide))
        field = flow_paths.field_of(flow, mask, job.spacing)
        steps = job.labelling.flow_steps
        stands = flow_paths.move(particles, field, wide.begin, job.blocks.shape, steps=steps)
    ends = flow_paths.ends_of(particles, job.blocks.shape)
    nearest = np.stack(np.unravel_index(ends, job.blocks.shape), axis=1)
    reached = particles.voxels[:, 3 - len(box.begin) :]
    places = job.blocks.at(np.where(stands[:, None], nearest, reached))
    left = ~stands
    arrays = {f"left_{one.name}": getattr(particles, one.name)[left] for one in fields(particles)}
    job.store.write(
        moved_in(task.turn),
        number,
        {
            "homes": homes[stands],
            "ends": ends[stands],
            "starts": np.unique(homes[stands, 0]),
            "stops": np.unique(places[stands]),
            "left_homes": homes[left],
            "left_places": places[left],
            "receivers": np.unique(places[left]),
            **arrays,
        },
    )


def _arrived(task: MoveTask) -> tuple[Particles, NDArray[np.int64]]:
    """Return the particles a block has to move, and of each its block and place in its mask."""
    job, number = task.job, task.number
    if task.turn == 0:
        box = job.blocks.boxes[number]
        particles = flow_paths.particles_at(read_mask(job.store, MASK, job.blocks, box), box.begin)
        count = len(particles.voxels)
        return particles, np.stack([np.full(count, number), np.arange(count)], axis=1)
    names = [one.name for one in fields(Particles)]
    parts = []
    for sender in task.senders:
        left = job.store.read(moved_in(task.turn - 1), sender)
        mine = left["left_places"] == number
        parts.append({name: left[f"left_{name}"][mine] for name in [*names, "homes"]})
    every = concatenated(parts)
    homes = every.pop("homes")
    return Particles(**every), homes


def _collect(job: ChannelsJob, run: Run, moved: Sequence[tuple[int, int]]) -> None:
    """Store where the particles of each block end, and how many end at each of its voxels."""
    for step, name, function in ((ENDS, "starts", collect_ends), (HITS, "stops", count_hits)):
        missing = [n for n in range(len(job.blocks)) if not job.store.has(step, n)]
        concerned: dict[int, list[tuple[int, int]]] = {number: [] for number in missing}
        for turn, number in moved if missing else ():
            for other in job.store.read(moved_in(turn), number, [name])[name].tolist():
                if other in concerned:
                    concerned[other].append((turn, number))
        if missing:
            run(function, [CollectTask(job, n, tuple(concerned[n])) for n in missing], step)


def collect_ends(task: CollectTask) -> None:
    """Store where the particles end that start in a block, in the order of its mask."""
    job, number = task.job, task.number
    mask = read_mask(job.store, MASK, job.blocks, job.blocks.boxes[number])
    ends = np.zeros(np.count_nonzero(mask), np.int64)
    for turn, other in task.moved:
        part = job.store.read(moved_in(turn), other, ["homes", "ends"])
        mine = part["homes"][:, 0] == number
        ends[part["homes"][mine, 1]] = part["ends"][mine]
    job.store.write(ENDS, number, {"ends": ends})


def count_hits(task: CollectTask) -> None:
    """Store how many particles end at each voxel of a block."""
    job, number = task.job, task.number
    box = job.blocks.boxes[number]
    found = [np.zeros(0, np.int64)]
    for turn, other in task.moved:
        ends = job.store.read(moved_in(turn), other, ["ends"])["ends"]
        found.append(_inside(ends, box, job.blocks.shape)[0])
    hits = flow_paths.count_hits(np.concatenate(found), box.shape)
    job.store.write(HITS, number, {"hits": hits})


def _inside(
    flat: NDArray[np.int64], box: Box, shape: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return indices into the flattened volume as those into a box, and which lie in it."""
    voxels = np.stack(np.unravel_index(flat, tuple(shape)), axis=1) - np.array(box.begin)
    inside = np.asarray(((voxels >= 0) & (voxels < np.array(box.shape))).all(axis=1), dtype=bool)
    found = np.ravel_multi_index(tuple(voxels[inside].T), box.shape)
    return np.asarray(found, dtype=np.int64), inside


def _gathered(job: ChannelsJob, number: int, halo: int) -> tuple[NDArray[np.int32], Box]:
    """Return gathered hits in and around a block, right but for the outermost voxel, and where."""
    box = job.blocks.boxes[number].grow((halo,) * len(job.blocks.shape))
    wide = box.intersect(whole(job.blocks.shape))
    hits = read_part(job.store, HITS, job.blocks, wide, name="hits")
    return flow_paths.gather(hits), wide


def find_peaks(task: ChannelsTask) -> None:
    """Store the peaks of hits in a block."""
    job, number = task.job, task.number
    gathered, wide = _gathered(job, number, flow_paths.PEAK_HALO)
    found = flow_paths.peaks(gathered, job.labelling.sink_hits)
    job.store.write(PEAKS, number, pack(found[job.blocks.boxes[number].relative_to(wide).slices]))


@dataclass(frozen=True)
class HitBasins:
    """Hits as a surface and their peaks as seeds, of the blocks."""

    job: ChannelsJob

    def basin(self, number: int) -> Basin:
        """Return what is flooded in a block."""
        gathered, wide = _gathered(self.job, number, 1)
        gathered = gathered[self.job.blocks.boxes[number].relative_to(wide).slices]
        seeds = numbered_components(self.job, PEAKS, number, "all")
        return Basin(-gathered.astype(np.float32), seeds.astype(np.int32), gathered > 0)


def label_ends(task: ChannelsTask) -> None:
    """Store the instance of every voxel of a block: that of the place where it ends."""
    job, number = task.job, task.number
    box = job.blocks.boxes[number]
    ends = job.store.read(ENDS, number)["ends"]
    found = np.zeros(len(ends), np.int32)
    voxels = np.stack(np.unravel_index(ends, job.blocks.shape), axis=1)
    for other in np.unique(job.blocks.at(voxels)).tolist():
        flat, there = _inside(ends, job.blocks.boxes[other], job.blocks.shape)
        found[there] = job.store.read(GROUPS, other, ["labels"])["labels"].reshape(-1)[flat]
    labels = np.zeros(box.shape, np.int32)
    labels[read_mask(job.store, MASK, job.blocks, box)] = found
    job.store.write(LABELS, number, {"labels": labels})


@dataclass(frozen=True)
class ErrorTask(BlockTask[ChannelsJob]):
    """The instances whose flow is compared with the predicted one, and the box that holds them."""

    ids: tuple[int, ...]
    box: Box


def _drop_wrong(job: ChannelsJob, run: Run, most: float) -> None:
    """Drop instances whose own flow differs too much from the predicted one."""
    run_pass(job, run, find_extents, EXTENTS)
    run_missing(run, find_errors, _error_tasks(job), ERRORS, "compare flows")
    parts = [job.store.read(ERRORS, n) for n in range(len(job.blocks)) if job.store.has(ERRORS, n)]
    ids = np.concatenate([np.zeros(0, np.int64), *(part["ids"] for part in parts)])
    errors = np.concatenate([np.zeros(0), *(part["errors"] for part in parts)])
    kept = np.zeros(int(ids.max(initial=0)) + 1, np.int32)
    kept[ids[errors <= most]] = ids[errors <= most]
    job.store.write(JOINED, 0, {"numbers": kept})


def find_extents(task: ChannelsTask) -> None:
    """Store the bounding boxes of the labels of a block."""
    job, number = task.job, task.number
    labels = job.store.read(LABELS, number)["labels"]
    ids, renumbered = np.unique(labels, return_inverse=True)
    boxes = find_objects(renumbered.reshape(labels.shape) + 1)
    begin = np.array(job.blocks.boxes[number].begin)
    lows = np.array([[one.start for one in box] for box in boxes]) + begin
    highs = np.array([[one.stop for one in box] for box in boxes]) + begin
    found = ids > 0
    arrays = {"ids": ids.astype(np.int64), "lows": lows, "highs": highs}
    job.store.write(EXTENTS, number, {name: values[found] for name, values in arrays.items()})


def _error_tasks(job: ChannelsJob) -> list[ErrorTask]:
    """Return the instances of each block; one in several blocks belongs to the first of them."""
    parts = [job.store.read(EXTENTS, n) for n in range(len(job.blocks))]
    blocks = np.repeat(np.arange(len(parts)), [len(part["ids"]) for part in parts])
    every = concatenated(parts)
    ids, first, row = np.unique(every["ids"], return_index=True, return_inverse=True)
    axes = len(job.blocks.shape)
    lows, highs = np.full((len(ids), axes), np.iinfo(np.int64).max), np.zeros((len(ids), axes), int)
    np.minimum.at(lows, row, every["lows"])
    np.maximum.at(highs, row, every["highs"])
    tasks = []
    for number in np.unique(blocks[first]).tolist():
        own = blocks[first] == number
        low, high = lows[own].min(axis=0).tolist(), highs[own].max(axis=0).tolist()
        # one voxel more, so that the box has a single slice only where the volume has
        box = Box(tuple(low), tuple(high)).grow((1,) * axes).intersect(whole(job.blocks.shape))
        tasks.append(ErrorTask(job, number, tuple(ids[own].tolist()), box))
    return tasks


def find_errors(task: ErrorTask) -> None:
    """Store how much the flow of some instances differs from the predicted one."""
    job = task.job
    labels = read_part(job.store, LABELS, job.blocks, task.box, name="labels")
    numbers = np.zeros(int(labels.max(initial=0)) + 1, np.int32)
    numbers[list(task.ids)] = np.arange(1, len(task.ids) + 1)
    own = numbers[labels]
    predicted = dequantise(job.source.component("flow", task.box))
    errors = flow_paths.flow_errors(own, predicted, flow(Instances(own, job.spacing)))
    job.store.write(ERRORS, task.number, {"ids": np.array(task.ids), "errors": errors[1:]})

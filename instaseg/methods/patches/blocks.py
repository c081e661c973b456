"""Assembly of volumes that do not fit in memory: block by block, and the same as whole.

Each step runs over all blocks before the next begins; what a step leaves for a block is in a store,
so a run that was killed goes on with what is missing::

    foreground -> rank -> select, thin out -> run through -> edges -> (partition) -> paint

Only the partition of the patch graph, and for packed output the choice of channels, is global. What
a step reads around a block is told in :mod:`instaseg.methods.patches.block_steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise import components
from instaseg.blockwise.grid import pack, read_every, read_mask, within
from instaseg.blockwise.tasks import BlockTask, every_block, run_missing
from instaseg.blockwise.work import Run
from instaseg.methods.patches import assembly, block_selection, block_steps
from instaseg.methods.patches.block_steps import PatchJob
from instaseg.methods.patches.patch_graph import EdgeSums, weighted_graph
from instaseg.regions.partition import partition


def label_blocks(job: PatchJob, run: Run) -> PaintedBlocks:
    """Label a volume block by block; the partition is that of the whole for any blocks.

    Parameters
    ----------
    job : PatchJob
        Patches, parameters, blocks, and the store, in which results of an earlier run are used.
    run : callable
        Runs a function on tasks of the blocks.

    Returns
    -------
    PaintedBlocks
        The labels, to be read block by block.

    Raises
    ------
    StageError
        If blocks fail; the others are finished and kept.
    """
    _find_foreground(job, run)
    if job.settings.cover_mask == "skeleton":
        _write_skeleton(job)
    _for_all(job, run, block_steps.rank_block, block_steps.RANKED, "rank patches")
    block_selection.choose(job, run)
    if job.settings.thin_out == "greedy":
        block_selection.thin_out(job, run)
    nodes = _number_selected(job, run)
    _for_all(job, run, block_steps.sum_edges, block_steps.EDGES, "connect patches")
    count = _partition(job, nodes)
    if job.source.overlap(job.blocks.boxes[0]) is not None:
        _for_all(job, run, block_steps.run_through, block_steps.THROUGH, "run through overlaps")
    if job.settings.output != "single":
        _choose_channels(job, run, count)
    _for_all(job, run, block_steps.paint_block, block_steps.PAINTED, "paint instances")
    return _painted(job)


def _for_all(
    job: PatchJob,
    run: Run,
    function: Callable[[BlockTask[PatchJob]], None],
    step: str,
    description: str,
) -> None:
    """Run a step for the blocks that have no result of it."""
    run_missing(run, function, every_block(job), step, description)


def _find_foreground(job: PatchJob, run: Run) -> None:
    """Store the foreground, without small components if the settings say so."""
    least = job.settings.ignore_small_components
    if not least:
        _for_all(job, run, block_steps.find_foreground, block_steps.FOREGROUND, "find foreground")
        return
    step = block_steps.ANY_FOREGROUND
    _for_all(job, run, block_steps.find_foreground, step, "find foreground")
    _for_all(job, run, block_steps.find_components, block_steps.COMPONENTS, "find components")
    found = components.merge(
        job.blocks, lambda n, names: job.store.read(block_steps.COMPONENTS, n, names)
    )
    large = np.concatenate([[False], found.sizes >= least])
    for number, numbers in enumerate(found.numbers):
        job.store.write(block_steps.LARGE, number, {"large": large[numbers]})
    _for_all(job, run, block_steps.drop_small, block_steps.FOREGROUND, "drop small components")


def _write_skeleton(job: PatchJob) -> None:
    """Store the centre lines of the foreground, which no block knows alone.

    This holds the voxels of the foreground in memory, some words for each, and no volume.
    """
    numbers = range(len(job.blocks))
    if all(job.store.has(block_steps.SKELETON, n) for n in numbers):
        return
    shape = job.blocks.shape
    found = [np.zeros(0, np.int64)]
    for block in job.blocks.boxes:
        inside = read_mask(job.store, block_steps.FOREGROUND, job.blocks, block)
        places = np.argwhere(inside) + block.begin
        found.append(np.ravel_multi_index(tuple(places.T), shape))
    voxels = np.sort(np.concatenate(found))
    lines = np.stack(np.unravel_index(voxels, shape), axis=1)
    lines = lines[assembly.on_skeleton(lines, job.ndim)]
    for number in numbers:
        block = job.blocks.boxes[number]
        thin = np.zeros(block.shape, dtype=bool)
        thin[tuple((lines[within(lines, block)] - block.begin).T)] = True
        mask = read_mask(job.store, block_steps.VISIBLE, job.blocks, block)
        job.store.write(block_steps.SKELETON, number, pack(thin & mask))


def _number_selected(job: PatchJob, run: Run) -> int:
    """Store the selected patches of every block with their numbers in the order of selection."""
    numbers = range(len(job.blocks))
    chosen, scores, positions = [], [], []
    for number in numbers:
        kept = block_selection.read_kept(job, number)
        ranked = job.store.read(block_steps.RANKED, number, ["scores", "positions"])
        chosen.append(block_selection.read_chosen(job, number)[kept])
        scores.append(ranked["scores"][kept])
        positions.append(ranked["positions"][kept])
    order = block_selection.selection_order(
        np.concatenate(chosen), np.concatenate(scores), np.concatenate(positions)
    )
    nodes = np.empty(len(order), np.int64)
    nodes[order] = np.arange(len(order))
    ends = np.cumsum([0, *map(len, positions)])
    for number in numbers:
        of_block = nodes[ends[number] : ends[number + 1]]
        job.store.write(block_steps.NODES, number, {"nodes": of_block})
    _for_all(job, run, block_selection.write_selected, block_steps.SELECTED, "number patches")
    return len(nodes)


def _partition(job: PatchJob, nodes: int) -> int:
    """Cut the whole graph into instances; store each patch's one; return how many there are."""
    settings = job.settings
    graph = weighted_graph(
        add_edges(partial(_parts_of_edges, job), nodes),
        nodes,
        scale=assembly.unit(settings, job.window),
        same_patch_weight=settings.same_patch_weight,
    )
    instances = partition(graph, how=settings.partition, singles=settings.single_patches)
    for number in range(len(job.blocks)):
        mine = job.store.read(block_steps.NODES, number)["nodes"]
        job.store.write(block_steps.MEMBERS, number, {"instances": instances[mine]})
    return int(instances.max(initial=0))


def _parts_of_edges(job: PatchJob) -> Iterator[EdgeSums]:
    """Yield what each block adds to the graph."""
    for number in range(len(job.blocks)):
        part = job.store.read(block_steps.EDGES, number)
        yield EdgeSums(part["edges"], part["every"], part["same"])


def add_edges(parts: Callable[[], Iterable[EdgeSums]], nodes: int) -> EdgeSums:
    """Return the sum of parts of a graph: every edge once, in lexicographic order.

    The parts are read twice: first which edges there are, then what is known of them. So memory is
    that of the result and of one part.

    Parameters
    ----------
    parts : callable
        Yields the parts, the same ones each time.
    nodes : int
        Number of patches.
    """
    found, waiting = np.zeros(0, np.int64), [np.zeros(0, np.int64)]
    for part in parts():
        waiting.append(_edge_keys(part, nodes))
        if sum(map(len, waiting)) > len(found) // 4 + MOST_WAITING:
            found, waiting = _each_once([found, *waiting]), []
    found = _each_once([found, *waiting])
    every, same = np.zeros((len(found), 2), np.int64), np.zeros((len(found), 2), np.int64)
    for part in parts():
        place = np.searchsorted(found, _edge_keys(part, nodes))
        every[place] += part.every  # a part has every edge once
        same[place] += part.same
    return EdgeSums(np.stack(np.divmod(found, max(nodes, 1)), axis=1), every, same)


MOST_WAITING = 1 << 20
"""Edges that wait to be sorted in among those known, beside a quarter of these."""


def _each_once(keys: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the numbers of several arrays, each once, sorted.

    ``numpy.unique`` hashes, which takes eight times as long for numbers that are sorted in parts.
    """
    found = np.concatenate(keys)
    found.sort(kind="stable")
    return found[np.append(True, found[1:] != found[:-1])] if len(found) else found


def _edge_keys(part: EdgeSums, nodes: int) -> NDArray[np.int64]:
    """Return one number for each edge, in their lexicographic order."""
    return part.edges[:, 0] * nodes + part.edges[:, 1]


def _choose_channels(job: PatchJob, run: Run, count: int) -> None:
    """Store the channel of every instance."""
    channels = np.arange(count)
    if job.settings.output == "packed":
        _for_all(job, run, block_steps.find_overlaps, block_steps.OVERLAPS, "compare instances")
        pairs = read_every(job.store, block_steps.OVERLAPS, job.blocks)["pairs"]
        channels = first_free(np.unique(pairs, axis=0), count)
    job.store.write(block_steps.CHANNELS, 0, {"channels": channels})


def first_free(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return for instances 1 ... count the first channel without an earlier one they overlap.

    Parameters
    ----------
    pairs : (m, 2) int64
        Overlapping instances ``i < j``.
    count : int
        Number of instances.

    Examples
    --------
    >>> first_free(np.array([[1, 2], [2, 3]]), 3).tolist()
    [0, 1, 0]
    """
    earlier: dict[int, list[int]] = {}
    for i, j in pairs.tolist():
        earlier.setdefault(j, []).append(i)
    channels = np.zeros(count, np.int64)
    for instance in range(1, count + 1):
        taken = {int(channels[other - 1]) for other in earlier.get(instance, ())}
        channels[instance - 1] = next(c for c in range(len(taken) + 1) if c not in taken)
    return channels


@dataclass(frozen=True)
class PaintedBlocks:
    """Labels of a volume, in a store.

    Parameters
    ----------
    job : PatchJob
        What was labelled.
    channels : int
        Length of the channel axis, at least 1.
    numbers : ndarray of int32
        Label of each instance, by its number in the store; 0 stays 0.
    """

    job: PatchJob
    channels: int
    numbers: NDArray[np.int32]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the labels: ``([z,] y, x)``, or with a channel axis if output has channels."""
        space = self.job.blocks.image.shape[3 - self.job.ndim :]
        return space if self.job.settings.output == "single" else (self.channels, *space)

    def parts(self) -> Iterator[tuple[tuple[slice, ...], NDArray[np.int32]]]:
        """Yield where labels are that are not 0, and the labels there."""
        job, image = self.job, self.job.blocks.image
        for number, block in enumerate(job.blocks.boxes):
            painted = job.store.read(block_steps.PAINTED, number)
            part = block.intersect(image).relative_to(image)
            place = part.slices[3 - job.ndim :]
            for channel, labels in zip(painted["channels"], painted["labels"], strict=True):
                values = self.numbers[labels[0] if job.ndim == 2 else labels]
                lead = () if job.settings.output == "single" else (slice(channel, channel + 1),)
                yield (*lead, *place), values[None] if lead else values


def _painted(job: PatchJob) -> PaintedBlocks:
    found, channels = [np.zeros(0, np.int32)], 1
    for number in range(len(job.blocks)):
        painted = job.store.read(block_steps.PAINTED, number, ["found"])
        found.append(painted["found"])
    present = np.unique(np.concatenate(found))
    if job.settings.output != "single":
        of_instances = job.store.read(block_steps.CHANNELS, 0)["channels"]
        channels = int(of_instances.max(initial=0)) + 1
        return PaintedBlocks(job, channels, np.arange(len(of_instances) + 1, dtype=np.int32))
    numbers = np.zeros(int(present.max(initial=0)) + 1, np.int32)
    numbers[present] = np.arange(1, len(present) + 1)
    return PaintedBlocks(job, channels, numbers)

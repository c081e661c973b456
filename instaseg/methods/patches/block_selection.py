"""Steps 3 and 4 block by block: the very patches that the plain walk over all of them selects.

The walk is sequential: whether a patch is selected depends on the better ones that share voxels
with it, these on still better ones ... A block knows its own patches and those around it. It walks
them in the global order and decides what can be decided: a patch is

* refused, if it covers too little even though no undecided patch before it is selected,
* selected, if it covers enough even though all of them are,
* left open otherwise, for another round, when the blocks around have decided theirs.

The best open patch of the volume can always be decided, so rounds end; mostly after a few, since
covered voxels cut the chains. What is decided is what the plain walk decides, for any blocks.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.grid import concatenated, read_mask, within
from instaseg.blockwise.tasks import BlockTask
from instaseg.blockwise.work import Run
from instaseg.geometry import Box, whole
from instaseg.methods.patches import bits
from instaseg.methods.patches.block_steps import NODES, RANKED, SELECTED, PatchJob
from instaseg.methods.patches.cover import passes

CHOICE = "choice"
THINNED = "thinned"

OPEN, REFUSED, CHOSEN = 0, 1, 2


@dataclass(frozen=True)
class RoundTask(BlockTask[PatchJob]):
    """One round of one block.

    Parameters
    ----------
    turn : int
        The pass, from 0; the round's walk asks for ``least`` new voxels.
    least : int
        A patch must newly cover more.
    """

    turn: int = 0
    least: int = 0


def choose(job: PatchJob, run: Run) -> None:
    """Select patches, pass by pass, as :func:`instaseg.methods.patches.cover.cover` does.

    Every block's ``chosen`` in the store is then 0, or 1 + the pass in which a patch was selected.
    """
    blocks = range(len(job.blocks))
    for turn, least in enumerate(passes(job.settings.cover, job.window.size)):
        waiting = [n for n in blocks if _open_in(job, n, turn)]
        while waiting:
            tasks = [RoundTask(job, n, turn, least) for n in waiting]
            left = run(choose_round, tasks, "select patches")
            waiting = [n for n, number in zip(waiting, left, strict=True) if number]


def _open_in(job: PatchJob, number: int, turn: int) -> int:
    """Return how many patches of a block are not decided in a pass."""
    if not job.store.has(CHOICE, number):
        return len(job.store.read(RANKED, number, ["scores"])["scores"])
    state = job.store.read(CHOICE, number)
    if state["turn"] > turn:
        return 0
    refused = state["refused"] if state["turn"] == turn else np.zeros_like(state["refused"])
    return int(np.count_nonzero((state["chosen"] == 0) & ~refused))


def _read_choice(job: PatchJob, number: int, size: int) -> dict[str, NDArray[Any]]:
    if job.store.has(CHOICE, number):
        return job.store.read(CHOICE, number)
    return {
        "turn": np.array(-1),
        "chosen": np.zeros(size, np.int8),
        "refused": np.zeros(size, bool),
    }


def choose_round(task: RoundTask) -> int:
    """Decide what a block can decide; return how many of its patches stay open."""
    job, number, turn = task.job, task.number, task.turn
    inner, outer = job.around(number, 2), job.around(number, 3)
    near = _read_candidates(job, inner, task)
    mask = bits.pack_mask(read_mask(job.store, job.cover_mask, job.blocks, outer))
    corners = near["positions"] - np.array(job.window.radius) - np.array(outer.begin)
    words, covers, chosen = bits.lines(job.window), near["bits"], near["chosen"]
    for i in np.flatnonzero((chosen > 0) & (chosen <= turn)):
        bits.clear(covers[i], corners[i], words, mask)
    status = np.where(near["refused"], REFUSED, OPEN).astype(np.int8)
    status[chosen > 0] = REFUSED
    status[chosen == turn + 1] = CHOSEN
    mine = near["block"] == number
    order = _rank_order(near["scores"], near["positions"])
    _walk(order, covers, corners, words, mask, np.zeros_like(mask), task.least, mine, status)
    chosen, status = near["chosen"][mine], status[mine]
    chosen[(status == CHOSEN) & (chosen == 0)] = turn + 1
    refused = (status == REFUSED) & (chosen == 0)
    job.store.write(CHOICE, number, {"turn": np.array(turn), "chosen": chosen, "refused": refused})
    return int(np.count_nonzero(status == OPEN))


def _read_candidates(job: PatchJob, box: Box, task: RoundTask) -> dict[str, NDArray[Any]]:
    """Return the candidates centred in a box, with their state in the present pass.

    ``positions``, ``scores``, ``bits``, ``block``, ``chosen``, ``refused``; those of a block in
    the order of the store.
    """
    parts = []
    for number in job.blocks.touching(box.intersect(whole(job.blocks.shape))):
        ranked = job.store.read(RANKED, number)
        state = _read_choice(job, number, len(ranked["scores"]))
        refused = state["refused"] if state["turn"] == task.turn else state["refused"] & False
        kept = within(ranked["positions"], box)
        # what is refused for good in this pass is of no use to other blocks
        if number != task.number:
            kept &= ~refused
        parts.append(
            {
                "positions": ranked["positions"][kept],
                "scores": ranked["scores"][kept],
                "bits": job.read_bits(number, job.settings.fc_threshold)[kept],
                "block": np.full(np.count_nonzero(kept), number),
                "chosen": state["chosen"][kept],
                "refused": refused[kept],
            }
        )
    return concatenated(parts)


def _rank_order(scores: NDArray[np.float32], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the order of the walk: by descending score, equal ones in raster order."""
    z, y, x = positions.T
    return np.lexsort((x, y, z, -scores.astype(np.float64)))


@nb.njit(cache=True, nogil=True)
def _walk(
    order: Any,
    covers: Any,
    corners: Any,
    words: Any,
    mask: Any,
    pending: Any,
    least: int,
    mine: Any,
    status: Any,
) -> None:
    for c in order:
        if status[c] == REFUSED:
            continue
        if status[c] == CHOSEN:
            bits.clear(covers[c], corners[c], words, mask)
            continue
        if bits.covered(covers[c], corners[c], words, mask) <= least:
            status[c] = REFUSED
            continue
        surely = mine[c] and bits.covered_apart(covers[c], corners[c], words, mask, pending) > least
        if surely:
            status[c] = CHOSEN
            bits.clear(covers[c], corners[c], words, mask)
        else:
            bits.put(covers[c], corners[c], words, pending)


def thin_out(job: PatchJob, run: Run) -> None:
    """Keep what :func:`instaseg.methods.patches.thin_out.thin_out` keeps of the selected patches.

    What became of each selected patch of a block is then its ``status`` in the store.
    """
    waiting = [n for n in range(len(job.blocks)) if _unthinned(job, n)]
    while waiting:
        left = run(thin_round, [RoundTask(job, n) for n in waiting], "thin out patches")
        waiting = [n for n, number in zip(waiting, left, strict=True) if number]


def _unthinned(job: PatchJob, number: int) -> int:
    chosen = read_chosen(job, number)
    return int(np.count_nonzero((chosen > 0) & (_read_thinned(job, number, chosen) == OPEN)))


def read_chosen(job: PatchJob, number: int) -> NDArray[np.int8]:
    """Return for each candidate of a block 0, or 1 + the pass in which it was selected."""
    if not job.store.has(CHOICE, number):
        return np.zeros(0, np.int8)
    return np.asarray(job.store.read(CHOICE, number, ["chosen"])["chosen"], dtype=np.int8)


def _read_thinned(job: PatchJob, number: int, chosen: NDArray[np.int8]) -> NDArray[np.int8]:
    if job.store.has(THINNED, number):
        return np.asarray(job.store.read(THINNED, number)["status"], dtype=np.int8)
    return np.where(chosen > 0, OPEN, REFUSED).astype(np.int8)


def read_kept(job: PatchJob, number: int) -> NDArray[np.bool_]:
    """Return which candidates of a block are selected in the end."""
    chosen = read_chosen(job, number)
    if job.settings.thin_out == "none":
        return chosen > 0
    return np.asarray(_read_thinned(job, number, chosen) == CHOSEN, dtype=bool)


def write_selected(task: BlockTask[PatchJob]) -> None:
    """Store the selected patches of a block with their numbers among all."""
    job, number = task.job, task.number
    kept = read_kept(job, number)
    selected = {
        "positions": job.store.read(RANKED, number, ["positions"])["positions"][kept],
        "nodes": job.store.read(NODES, number)["nodes"],
        "bits": job.read_bits(number, job.settings.patch_threshold)[kept],
        "paints": job.read_bits(number, job.settings.painted_above)[kept],
    }
    job.store.write(SELECTED, number, selected)


def thin_round(task: RoundTask) -> int:
    """Decide what a block can decide; return how many of its patches stay open.

    A patch is kept before all open ones that share uncovered voxels with it, if none of them covers
    more: what they cover only shrinks.
    """
    job, number = task.job, task.number
    outer = job.around(number, 5)
    near = _read_selected(job, job.around(number, 4))
    left = bits.pack_mask(read_mask(job.store, job.cover_mask, job.blocks, outer))
    corners = near["positions"] - np.array(job.window.radius) - np.array(outer.begin)
    words, covers, status = bits.lines(job.window), near["bits"], near["status"]
    for i in np.flatnonzero(status == CHOSEN):
        bits.clear(covers[i], corners[i], words, left)
    _greedy(covers, corners, words, left, near["block"] == number, status)
    of_block = _read_thinned(job, number, read_chosen(job, number))
    of_block[near["row"][near["block"] == number]] = status[near["block"] == number]
    job.store.write(THINNED, number, {"status": of_block})
    return int(np.count_nonzero(of_block == OPEN))


def _greedy(
    covers: NDArray[np.uint64],
    corners: NDArray[np.int64],
    words: NDArray[np.int64],
    left: NDArray[np.uint64],
    mine: NDArray[np.bool_],
    status: NDArray[np.int8],
) -> None:
    pending = np.zeros_like(left)
    queue = [
        (-bits.covered(covers[i], corners[i], words, left), int(i))
        for i in np.flatnonzero(status == OPEN)
    ]
    heapq.heapify(queue)
    while queue:
        negative, i = heapq.heappop(queue)
        gain = bits.covered(covers[i], corners[i], words, left)
        if gain == 0:
            status[i] = REFUSED
        elif gain < -negative:
            heapq.heappush(queue, (-gain, i))
        elif mine[i] and gain == bits.covered_apart(covers[i], corners[i], words, left, pending):
            status[i] = CHOSEN
            bits.clear(covers[i], corners[i], words, left)
        else:
            bits.put(covers[i], corners[i], words, pending)


def _read_selected(job: PatchJob, box: Box) -> dict[str, NDArray[Any]]:
    """Return the patches that were selected around a block, in the order of selection."""
    parts = []
    for number in job.blocks.touching(box.intersect(whole(job.blocks.shape))):
        chosen = read_chosen(job, number)
        status = _read_thinned(job, number, chosen)
        ranked = job.store.read(RANKED, number)
        kept = np.flatnonzero((status != REFUSED) & within(ranked["positions"], box))
        parts.append(
            {
                "positions": ranked["positions"][kept],
                "scores": ranked["scores"][kept],
                "bits": job.read_bits(number, job.settings.fc_threshold)[kept],
                "block": np.full(len(kept), number),
                "row": kept,
                "chosen": chosen[kept],
                "status": status[kept],
            }
        )
    together = concatenated(parts)
    order = selection_order(together["chosen"], together["scores"], together["positions"])
    return {name: values[order] for name, values in together.items()}


def selection_order(
    chosen: NDArray[np.int8], scores: NDArray[np.float32], positions: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the order in which patches were selected: by pass, then as the walk goes."""
    order = _rank_order(scores, positions)
    return order[np.argsort(chosen[order], kind="stable")]

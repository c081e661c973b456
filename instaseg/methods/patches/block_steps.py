"""The steps of assembly for one block: what it reads around it, what it adds to the whole.

Coordinates are voxels of the prediction, in 3-D. With `r` the patch's radius, this much is looked
at for a block ``b``::

                            patches centred in    their voxels in
      consensus and rank         b + 2 r              b + 3 r     a patch of b sees b + r
      selection                  b + 2 r              b + 3 r     patches that share voxels
      thinning out               b + 4 r              b + 5 r     and what else covers these
      running through            b + r                b + 2 r     overlaps, along the patches of b
      edges                      b + 4 r              b + 2 r     pairs of voxels that begin in b
      painting                   b + r                b + 2 r     patches that reach into b

Every pair of voxels belongs to the block of its first voxel, and sums over pairs are whole numbers,
so the parts of an edge that blocks add up to are exactly its sum over the volume.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.components import label_block, local_labels
from instaseg.blockwise.grid import BlockGrid, concatenated, pack, read_mask, within
from instaseg.blockwise.tasks import BlockTask
from instaseg.blockwise.work import Store
from instaseg.geometry import Box, whole
from instaseg.methods.base import Device
from instaseg.methods.patches import assembly, bits
from instaseg.methods.patches.config import LabelSettings
from instaseg.methods.patches.offsets import Window
from instaseg.methods.patches.painting import paint_over
from instaseg.methods.patches.patch_graph import edge_sums, neighbours
from instaseg.methods.patches.through import Claims, claims_in_overlap, painted_once

FOREGROUND, VISIBLE, SKELETON = "foreground", "visible", "skeleton"
ANY_FOREGROUND, ANY_VISIBLE = "any_foreground", "any_visible"
COMPONENTS, LARGE = "components", "large"
RANKED, COVERS, CLAIMS, PAINTS = "ranked", "covers", "claims", "paints"
NODES, SELECTED, EDGES, MEMBERS, PAINTED = "nodes", "selected", "edges", "members", "painted"
THROUGH = "through"
OVERLAPS, CHANNELS = "overlaps", "channels"
"""Names of the steps in the store."""


class PatchSource(Protocol):
    """Predicted patches, read part by part. Picklable."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """The volume ``(z, y, x)`` in voxels, margin included; z is 1 for 2-D data."""

    def foreground(self, box: Box) -> NDArray[Any]:
        """Return the foreground or its probability in a box inside the volume."""

    def overlap(self, box: Box) -> NDArray[Any] | None:
        """Return where instances overlap in a box inside the volume, or its probability.

        None where they never do.
        """

    def affinities(self, box: Box, centres: NDArray[np.bool_]) -> NDArray[Any]:
        """Return the patches ``(K, *box.shape)`` in a box, which may leave the volume.

        Only those at `centres`, which lie inside, are used; others may hold any probability.
        """


@dataclass(frozen=True)
class PatchJob:
    """What every step of a volume's blocks needs.

    Parameters
    ----------
    source : PatchSource
        Predicted patches.
    settings : LabelSettings
        Table ``[vote_instances]``.
    window : Window
        The patch.
    blocks : BlockGrid
        The volume's blocks, in 3-D.
    ndim : {2, 3}
        Spatial axes of the data.
    store : Store
        Where results of blocks are.
    device : {"cpu", "cuda"}
        Where consensus and scores are computed.
    """

    source: PatchSource
    settings: LabelSettings
    window: Window
    blocks: BlockGrid
    ndim: int
    store: Store
    device: Device = "cpu"

    @property
    def cover_mask(self) -> str:
        """The step whose mask the selected patches have to cover."""
        return VISIBLE if self.settings.cover_mask == "foreground" else SKELETON

    def around(self, number: int, radii: int) -> Box:
        """Return a block and so many radii of the patch around it; may leave the volume."""
        return self.blocks.boxes[number].grow([radii * r for r in self.window.radius])

    @property
    def thresholds(self) -> dict[float, str]:
        """Probabilities above which patches are kept as bits, and the steps that keep them."""
        settings = self.settings
        return {
            settings.painted_above: PAINTS,
            settings.patch_threshold: CLAIMS,
            settings.fc_threshold: COVERS,
        }

    def read_bits(self, number: int, threshold: float) -> NDArray[np.uint64]:
        """Return the voxels of a block's candidates above one of the thresholds, as bits."""
        return self.store.read(self.thresholds[threshold], number)["bits"]


def find_foreground(task: BlockTask[PatchJob]) -> None:
    """Store the foreground of a block, and the part of it that belongs to one instance only."""
    job, box = task.job, task.job.blocks.boxes[task.number]
    source, settings = job.source, job.settings
    foreground, visible = assembly.masks(source.foreground(box), source.overlap(box), settings)
    small = bool(job.settings.ignore_small_components)
    job.store.write(ANY_VISIBLE if small else VISIBLE, task.number, pack(visible))
    job.store.write(ANY_FOREGROUND if small else FOREGROUND, task.number, pack(foreground))


def find_components(task: BlockTask[PatchJob]) -> None:
    """Store the connected components of a block's foreground (faces, edges and corners)."""
    job, box = task.job, task.job.blocks.read_box(task.number)
    foreground = read_mask(job.store, ANY_FOREGROUND, job.blocks, box)
    core_shape = job.blocks.boxes[task.number].shape
    job.store.write(COMPONENTS, task.number, label_block(foreground, core_shape))


def drop_small(task: BlockTask[PatchJob]) -> None:
    """Store the foreground of a block without small components; ``large`` says which are not."""
    job, box = task.job, task.job.blocks.read_box(task.number)
    large = job.store.read(LARGE, task.number)["large"]
    labels = local_labels(read_mask(job.store, ANY_FOREGROUND, job.blocks, box))
    core = tuple(slice(0, n) for n in job.blocks.boxes[task.number].shape)
    foreground = large[labels[core]]
    visible = read_mask(job.store, ANY_VISIBLE, job.blocks, job.blocks.boxes[task.number])
    job.store.write(VISIBLE, task.number, pack(visible & foreground))
    job.store.write(FOREGROUND, task.number, pack(foreground))


def rank_block(task: BlockTask[PatchJob]) -> None:
    """Store the patches centred in a block: where they are, their scores, what they cover."""
    job, number = task.job, task.number
    outer = job.around(number, 3)
    core = _inside(outer, job.blocks.boxes[number])
    volume = _volume(job, outer, voters=job.around(number, 2), pairs=job.around(number, 1))
    centres = volume.centres & core
    if not (centres & volume.visible).any():
        _store_ranked(job, number, outer, centres & False, np.zeros(outer.shape, np.float32), None)
        return
    votes = assembly.vote(volume, job.settings)
    ranked = replace(volume, centres=centres)
    scores = assembly.score(ranked, votes, job.settings)
    candidates = assembly.candidates(ranked, scores, job.settings)
    _store_ranked(job, number, outer, candidates, scores, volume.inputs.affinities)


def _store_ranked(
    job: PatchJob,
    number: int,
    outer: Box,
    candidates: NDArray[np.bool_],
    scores: NDArray[np.float32],
    affinities: NDArray[Any] | None,
) -> None:
    positions = np.argwhere(candidates) + np.array(outer.begin)
    for threshold, step in job.thresholds.items():
        claimed = np.zeros((0, bits.words_of(job.window)), np.uint64)
        if affinities is not None:
            claimed = bits.patch_bits(
                affinities, candidates, window=job.window, threshold=threshold
            )
        job.store.write(step, number, {"bits": claimed})
    # last: it says that the block is done
    job.store.write(RANKED, number, {"positions": positions, "scores": scores[candidates]})


def _volume(job: PatchJob, outer: Box, *, voters: Box, pairs: Box) -> assembly.Volume:
    """Return the part of the volume in `outer`: patches of `voters` that vote on `pairs`."""
    foreground = read_mask(job.store, FOREGROUND, job.blocks, outer)
    visible = read_mask(job.store, VISIBLE, job.blocks, outer) & _inside(outer, pairs)
    centres = foreground & _inside(outer, voters) & _complete(job, outer)
    affinities = job.source.affinities(outer, centres)
    inputs = assembly.Inputs(affinities, foreground, None, job.window, job.ndim)
    return assembly.Volume(inputs, foreground, visible, centres, job.device)


def _complete(job: PatchJob, outer: Box) -> NDArray[np.bool_]:
    """Return where patches lie inside the volume; nowhere outside it."""
    inner = whole(job.blocks.shape).grow([-r for r in job.window.radius])
    return _inside(outer, inner)


def _inside(outer: Box, box: Box) -> NDArray[np.bool_]:
    """Return which voxels of `outer` lie in `box`."""
    mask = np.zeros(outer.shape, dtype=bool)
    shared = box.intersect(outer)
    if all(shared.shape):
        mask[shared.relative_to(outer).slices] = True
    return mask


def read_selected(job: PatchJob, box: Box) -> dict[str, NDArray[Any]]:
    """Return the selected patches centred in a box: ``positions``, ``nodes``, ``bits``; by node."""
    parts = []
    for number in job.blocks.touching(box):
        selected = job.store.read(SELECTED, number, ["positions", "nodes", "bits"])
        kept = within(selected["positions"], box)
        parts.append({name: values[kept] for name, values in selected.items()})
    together = concatenated(parts)
    order = np.argsort(together["nodes"])
    return {name: values[order] for name, values in together.items()}


def sum_edges(task: BlockTask[PatchJob]) -> None:
    """Store what a block adds to the edges of the patch graph."""
    job, number = task.job, task.number
    outer = job.around(number, 2)
    selected = read_selected(job, job.around(number, 4).intersect(whole(job.blocks.shape)))
    positions, nodes = selected["positions"] - np.array(outer.begin), selected["nodes"]
    near = _near(positions, outer, job.around(number, 1))
    edges = neighbours(positions, job.window, job.settings.patch_distance)
    edges = edges[near[edges].any(axis=1)] if len(edges) else edges
    if not len(edges):
        nothing = np.zeros((0, 2), np.int64)
        job.store.write(EDGES, number, {"edges": nothing, "every": nothing, "same": nothing})
        return
    volume = _volume(job, outer, voters=job.around(number, 1), pairs=outer)
    core = _inside(outer, job.blocks.boxes[number])
    votes = assembly.vote(volume, job.settings, wanted=core)
    sums = edge_sums(votes, selected["bits"], positions, edges)
    known = sums.every[:, 1] > 0
    job.store.write(
        EDGES,
        number,
        {"edges": nodes[edges[known]], "every": sums.every[known], "same": sums.same[known]},
    )


def _near(positions: NDArray[np.int64], outer: Box, box: Box) -> NDArray[np.bool_]:
    return within(positions, box.relative_to(outer))


def read_members(job: PatchJob, box: Box) -> Claims:
    """Return the selected patches of instances that are centred in a box."""
    parts = []
    for number in job.blocks.touching(box.intersect(whole(job.blocks.shape))):
        selected = job.store.read(SELECTED, number, ["positions", "paints"])
        instances = job.store.read(MEMBERS, number)["instances"]
        kept = within(selected["positions"], box) & (instances > 0)
        parts.append(Claims(instances[kept], selected["paints"][kept], selected["positions"][kept]))
    return _painted_part(job, sum(parts[1:], parts[0]), box)


def _painted_part(job: PatchJob, claims: Claims, box: Box) -> Claims:
    """Return what claims of patches centred in a box paint."""
    if job.settings.paint == "patches":
        return claims
    wide = box.grow(job.window.radius)
    local = claims.relative_to(wide)
    part = local.inside(read_mask(job.store, FOREGROUND, job.blocks, wide), window=job.window)
    return Claims(part.instances, part.patches, claims.positions)


def read_claims(job: PatchJob, number: int) -> Claims:
    """Return what is painted in a block: members, and what runs through overlaps.

    Positions are those in the block with two radii around it.
    """
    box = job.around(number, 1)
    claims = read_members(job, box)
    for other in job.blocks.touching(box.intersect(whole(job.blocks.shape))):
        if job.store.has(THROUGH, other):
            found = job.store.read(THROUGH, other)
            kept = within(found["positions"], box)
            claims += Claims(
                found["instances"][kept], found["bits"][kept], found["positions"][kept]
            )
    return claims.relative_to(job.around(number, 2))


def run_through(task: BlockTask[PatchJob]) -> None:
    """Store what patches centred in a block claim in overlaps, for the instance they are in."""
    job, number = task.job, task.number
    outer, core = job.around(number, 2), job.blocks.boxes[number]
    visible = read_mask(job.store, VISIBLE, job.blocks, outer)
    overlap = read_mask(job.store, FOREGROUND, job.blocks, outer) & ~visible
    local = read_members(job, job.around(number, 1)).relative_to(outer)
    found = Claims(local.instances[:0], local.patches[:0], local.positions[:0])
    if overlap.any() and len(local.instances):
        alone = painted_once(local, outer.shape, window=job.window)
        used = visible & _inside(outer, core) & _complete(job, outer)
        alone = np.where(used, alone, 0)
        found = claims_in_overlap(
            job.source.affinities(outer, alone > 0),
            alone,
            overlap,
            window=job.window,
            threshold=job.settings.painted_above,
        )
    arrays = {
        "instances": found.instances,
        "bits": found.patches,
        "positions": found.positions + np.array(outer.begin),
    }
    job.store.write(THROUGH, number, arrays)


def paint_block(task: BlockTask[PatchJob]) -> None:
    """Store the labels ``(channels, z, y, x)`` of a block's part of the image, and which there are.

    Where no instance is, no array of labels is stored.
    """
    job, number = task.job, task.number
    outer, core = job.around(number, 2), job.blocks.boxes[number].intersect(job.blocks.image)
    claims = read_claims(job, number)
    numbers, instances = np.unique(claims.instances, return_inverse=True)
    channels = np.zeros(len(numbers), np.int64)
    if job.settings.output != "single":
        channels = job.store.read(CHANNELS, 0)["channels"][numbers - 1]
    painted, used = [], np.unique(channels)
    for channel in used:
        mine = channels[instances] == channel
        labels = np.zeros(outer.shape, np.int32)
        paint_over(
            instances[mine] + 1,
            claims.patches[mine],
            claims.positions[mine],
            window=job.window,
            out=labels,
        )
        part = labels[core.relative_to(outer).slices]
        painted.append(np.concatenate([[0], numbers])[part].astype(np.int32))
    labels = np.stack(painted) if painted else np.zeros((0, *core.shape), np.int32)
    kept = [i for i, channel in enumerate(labels) if channel.any()]
    found = np.unique(labels)
    job.store.write(
        PAINTED,
        number,
        {"channels": used[kept], "labels": labels[kept], "found": found[found > 0]},
    )


def find_overlaps(task: BlockTask[PatchJob]) -> None:
    """Store the pairs of instances ``(m, 2)``, ``i < j``, that share voxels of a block."""
    job, number = task.job, task.number
    outer, core = job.around(number, 2), job.blocks.boxes[number]
    claims = read_claims(job, number)
    voxels, owners = bits.list_voxels(claims.patches, claims.positions, window=job.window)
    inside = within(voxels, core.relative_to(outer))
    flat = np.ravel_multi_index(tuple(voxels[inside].T), outer.shape)
    each = np.unique(np.column_stack([flat, claims.instances[owners[inside]]]), axis=0)
    pairs = [np.zeros((0, 2), np.int64)]
    step = 1
    while step < len(each):
        together = each[step:, 0] == each[:-step, 0]
        if not together.any():
            break
        pairs.append(np.column_stack([each[:-step, 1][together], each[step:, 1][together]]))
        step += 1
    job.store.write(OVERLAPS, number, {"pairs": np.unique(np.concatenate(pairs), axis=0)})

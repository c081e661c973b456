"""Every step in plain numpy: slow, short, and what the fast versions are tested against.

Volumes are tiny (tens of voxels): a pair of voxels is an entry of an ``N x N`` matrix, ``N`` the
number of voxels, and a patch is an array of the whole volume, NaN outside the patch. Formulas are
those of the specification, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.methods.patches.config import LabelSettings

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def patch_of(affinities: NDArray[Any], centre: Any, patch_shape: Sequence[int]) -> Floats:
    """Return ``A_c`` on the whole volume, NaN outside the patch (which lies inside the volume)."""
    out = np.full(affinities.shape[1:], np.nan)
    box = tuple(slice(c - n // 2, c + n // 2 + 1) for c, n in zip(centre, patch_shape, strict=True))
    index: tuple[Any, ...] = (slice(None), *centre)
    out[box] = affinities[index].reshape(patch_shape)
    return out


def background_limit(settings: LabelSettings) -> float:
    """Return the probability below which a voxel is not in a patch."""
    th = settings.patch_threshold
    return {"inverse": min(th, 1 - th), "half": th / 2, "less_than": th}[settings.background]


def centres_of(foreground: Mask, patch_shape: Sequence[int]) -> Mask:
    """Return the foreground at least `patch_shape // 2` from the border."""
    inside = np.zeros_like(foreground)
    radius = [n // 2 for n in patch_shape]
    inside[tuple(slice(r, n - r) for r, n in zip(radius, foreground.shape, strict=True))] = True
    return foreground & inside


def consensus(
    affinities: NDArray[Any],
    visible: Mask,
    centres: Mask,
    patch_shape: Sequence[int],
    settings: LabelSettings,
) -> Floats:
    """Return the ``(N, N)`` consensus; 0 where no patch votes, and on the diagonal."""
    th, limit = settings.patch_threshold, background_limit(settings)
    votes = np.zeros((visible.size, visible.size))
    number = np.zeros_like(votes)
    for centre in np.argwhere(centres):
        a = patch_of(affinities, centre, patch_shape).ravel()
        mine = (a > th) & visible.ravel()
        other = (a < limit) & visible.ravel()
        a = np.nan_to_num(a)
        for p_in, q_in, product, sign in (
            (mine, mine, np.outer(a, a), 1),
            (mine, other, np.outer(a, 1 - a), -1),
            (other, mine, np.outer(1 - a, a), -1),
        ):
            pairs = np.outer(p_in, q_in)
            votes += sign * pairs * strength(product, settings)
            number += pairs
    if settings.consensus == "mean":
        votes /= np.maximum(number, 1)
    np.fill_diagonal(votes, 0)
    return votes


def strength(product: Floats, settings: LabelSettings) -> Floats:
    """Return the strength of votes whose two probabilities have this product."""
    square = settings.patch_threshold**2
    if settings.vote == "normalized_product":
        return np.asarray((product - square) / (1 - square))
    return product if settings.vote == "product" else np.ones_like(product)


def rank(
    affinities: NDArray[Any],
    votes: Floats,
    visible: Mask,
    centres: Mask,
    patch_shape: Sequence[int],
    settings: LabelSettings,
) -> Floats:
    """Return the score of every patch, -1 where there is none."""
    scores = np.full(visible.shape, -1.0)
    values = np.sign(votes) if settings.rank == "signs" else votes
    for centre in np.argwhere(centres):
        a = patch_of(affinities, centre, patch_shape).ravel()
        seen = np.isfinite(a) & visible.ravel()
        mine = (a > settings.patch_threshold) & seen
        other = (a < background_limit(settings)) & seen
        total, visited = 0.0, 0
        for p in np.flatnonzero(mine):
            for q in np.flatnonzero(seen):
                if q == p or (mine[q] and q < p):
                    continue  # a pair of two own voxels counts once
                visited += 1
                total += values[p, q] * (1 if mine[q] else -1 if other[q] else 0)
        scores[tuple(centre)] = total / max(1, visited)
    return scores


def cover(
    scores: Sequence[float], patches: Sequence[Mask], mask: Mask, least: Sequence[int]
) -> list[int]:
    """Return the selected patches: those that newly cover more than each of `least` in turn."""
    left = mask.copy()
    picked: list[int] = []
    for needed in least:
        for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
            if i not in picked and np.count_nonzero(patches[i] & left) > needed:
                left &= ~patches[i]
                picked.append(i)
    return picked


def thin_out(patches: Sequence[Mask], mask: Mask) -> list[int]:
    """Return the patches that a greedy set cover keeps."""
    left = mask.copy()
    kept: list[int] = []
    while patches:
        gains = [np.count_nonzero(patch & left) for patch in patches]
        best = int(np.argmax(gains))
        if gains[best] == 0:
            break
        left &= ~patches[best]
        kept.append(best)
    return sorted(kept)


def patch_graph(
    votes: Floats,
    patches: Sequence[Mask],
    centres: NDArray[Any],
    patch_shape: Sequence[int],
    settings: LabelSettings,
) -> dict[tuple[int, int], float]:
    """Return the affinity of each pair of selected patches; `patches` hold visible voxels only."""
    place = np.argwhere(np.ones(patches[0].shape, dtype=bool)) if patches else np.zeros((0, 3))
    near = np.abs(place[:, None] - place[None]) < np.array(patch_shape)
    reach: Mask = np.asarray(near.all(axis=2))
    np.fill_diagonal(reach, False)
    edges = {}
    for i in range(len(patches)):
        for j in range(i + 1, len(patches)):
            if (
                np.abs(centres[i] - centres[j]) > settings.patch_distance * np.array(patch_shape)
            ).any():
                continue
            both = (patches[i] & patches[j]).ravel()
            weight = np.where(np.outer(both, both), settings.same_patch_weight, 1.0)
            weight *= np.outer(patches[i].ravel(), patches[j].ravel()) & reach
            if weight.sum() > 1e-9:
                edges[i, j] = float((weight * votes).sum() / weight.sum())
    return edges


def partition(
    nodes: int, edges: dict[tuple[int, int], float], settings: LabelSettings
) -> list[int]:
    """Return each patch's instance, from 1 in the order of their first patch; 0 where dropped."""
    group = list(range(nodes))
    forbidden: set[tuple[int, int]] = set()
    for (i, j), affinity in sorted(edges.items(), key=lambda e: (-abs(e[1]), e[0])):
        a, b = min(group[i], group[j]), max(group[i], group[j])
        if affinity < 0 and settings.partition == "mutex" and a != b:
            forbidden.add((a, b))
        if affinity > 0 and (a, b) not in forbidden:
            group = [a if g == b else g for g in group]
            moved = ((a if m == b else m, a if n == b else n) for m, n in forbidden)
            forbidden = {(min(m, n), max(m, n)) for m, n in moved}
    if settings.single_patches == "drop":
        group = [g if group.count(g) > 1 else -1 for g in group]
    order = list(dict.fromkeys(g for g in group if g >= 0))
    return [order.index(g) + 1 if g >= 0 else 0 for g in group]


def paint(
    instances: Sequence[int], patches: Sequence[Mask], shape: Sequence[int], settings: LabelSettings
) -> NDArray[np.int32]:
    """Return the unions of patches as labels, as :func:`.painting.paint` describes."""
    count = max(instances, default=0)
    unions = np.zeros((count, *shape), dtype=bool)
    for instance, patch in zip(instances, patches, strict=True):
        if instance:
            unions[instance - 1] |= patch
    channels = [np.zeros(shape, dtype=np.int32)]
    for i in range(count) if settings.output != "single" else reversed(range(count)):
        channel = channels[0]
        if settings.output == "one_per_channel" and i > 0:
            channels.append(channel := np.zeros(shape, dtype=np.int32))
        if settings.output == "packed":
            free = [c for c in channels if not (c[unions[i]] > 0).any()]
            channels += [] if free else [np.zeros(shape, dtype=np.int32)]
            channel = free[0] if free else channels[-1]
        channel[unions[i]] = i + 1
    if settings.output != "single":
        return np.stack(channels)
    present = np.unique(channels[0][channels[0] > 0])
    return np.asarray(np.searchsorted(present, channels[0]) + (channels[0] > 0), dtype=np.int32)


def run_through(
    instances: Sequence[int], patches: Sequence[Mask], *, candidates_mask: Mask
) -> dict[tuple[int, ...], int]:
    """Return the voxels of `candidates_mask` that one instance alone claims, and that instance."""
    claims: dict[tuple[int, ...], set[int]] = {}
    for instance, patch in zip(instances, patches, strict=True):
        for voxel in np.argwhere(patch & candidates_mask) if instance else ():
            claims.setdefault(tuple(voxel), set()).add(instance)
    return {voxel: min(found) for voxel, found in claims.items() if len(found) == 1}


def assemble(
    affinities: NDArray[Any],
    foreground: Mask,
    patch_shape: Sequence[int],
    settings: LabelSettings,
    overlap: Mask,
) -> NDArray[np.int32]:
    """Return the instances of a tiny volume: all steps, dense cover of the foreground included."""
    th = settings.patch_threshold
    visible = foreground & ~overlap
    centres = centres_of(foreground, patch_shape)
    votes = consensus(affinities, visible, centres, patch_shape, settings)
    scores = rank(affinities, votes, visible, centres, patch_shape, settings)
    candidates = np.argwhere(centres & visible)
    if settings.score_threshold is not None:
        candidates = np.array(
            [c for c in candidates if scores[tuple(c)] >= settings.score_threshold]
        )
    probabilities = [patch_of(affinities, c, patch_shape) for c in candidates]
    covers = [a > settings.fc_threshold for a in probabilities]
    size = int(np.prod(patch_shape))
    least = (
        [0] if settings.cover == "sparse" else [t for t in (500, 100, 50, 10, 0) if t < size / 2]
    )
    picked = cover([scores[tuple(c)] for c in candidates], covers, visible, least)
    if settings.thin_out == "greedy":
        picked = [picked[i] for i in thin_out([covers[i] for i in picked], visible)]
    patches = [probabilities[i] > th for i in picked]
    edges = patch_graph(
        votes, [p & visible for p in patches], candidates[picked], patch_shape, settings
    )
    instances = partition(len(picked), edges, settings)
    painted = foreground if settings.paint == "foreground" else np.ones_like(foreground)
    above = settings.painted_above
    patches = [(probabilities[i] > above) & painted for i in picked]
    through = run_through(instances, patches, candidates_mask=centres & visible)
    for centre, instance in through.items():
        instances.append(instance)
        claimed = patch_of(affinities, centre, patch_shape) > above
        patches.append(claimed & foreground & overlap)
    return paint(instances, patches, foreground.shape, settings)

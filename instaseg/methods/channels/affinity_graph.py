"""Instances from affinities: fragments are joined by what all affinities between them say.

An affinity is the probability that a voxel and the one at an offset from it are of one instance.
Fragments are flooded on the smallest affinity of each voxel to its neighbours. For two fragments,
every affinity of a voxel of the one to a voxel of the other is evidence, for any offset: above 1/2
they attract, below they repel. The graph of fragments is cut by mutex watershed::

    affinities --weakest--> surface --flood--> fragments --evidence--> graph --mutex--> instances

Evidence is summed as whole numbers, so sums over blocks are those over the whole volume.

Source: S. Wolf et al., The Mutex Watershed and its Objective: Efficient, Parameter-Free Image
Partitioning, arXiv:1904.12654, which works on single voxels (:func:`label_voxels`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from instaseg.geometry import partners
from instaseg.regions.partition import Graph, partition

UNIT = 2**15
"""Evidence of affinity 1; that of affinity 0 is its negative."""

Offset = tuple[int, ...]


@dataclass(frozen=True)
class PairEvidence:
    """What affinities say of pairs of fragments; parts of a volume can be added up.

    Parameters
    ----------
    pairs : ndarray of int64, (n, 2)
        Fragments ``a < b``, in lexicographic order.
    sums : ndarray of int64, (n,)
        Sum over voxel pairs of ``UNIT * (2 affinity - 1)``, each rounded.
    counts : ndarray of int64, (n,)
        Number of voxel pairs.
    """

    pairs: NDArray[np.int64]
    sums: NDArray[np.int64]
    counts: NDArray[np.int64]

    def __add__(self, other: PairEvidence) -> PairEvidence:
        """Return the evidence of both."""
        return _summed(
            np.concatenate([self.pairs, other.pairs]),
            np.concatenate([self.sums, other.sums]),
            np.concatenate([self.counts, other.counts]),
        )


def nearest_pairs(offsets: Sequence[Offset]) -> list[int]:
    """Return the numbers of the offsets that lead to a neighbour, else of the shortest ones.

    Examples
    --------
    >>> nearest_pairs([(-1, 0), (0, -1), (-9, 0), (0, -9)])
    [0, 1]
    """
    lengths = [max(map(abs, offset)) for offset in offsets]
    return [number for number, length in enumerate(lengths) if length == min(lengths)]


def weakest(affinities: NDArray[np.float32], offsets: Sequence[Offset]) -> NDArray[np.float32]:
    """Return the smallest affinity of each voxel to a neighbour, of both directions.

    Parameters
    ----------
    affinities : ndarray of float32, (n, [z,] y, x)
        The value at a voxel is that of its pair with the voxel at the offset.
    offsets : sequence of tuple of int
        In voxels.

    Returns
    -------
    ndarray of float32, ([z,] y, x)
        1 where there is no neighbour.

    Examples
    --------
    >>> weakest(np.float32([[[0.0, 0.9, 0.2]]]), [(0, -1)]).tolist()
    [[0.8999999761581421, 0.20000000298023224, 0.20000000298023224]]
    """
    found = np.ones(affinities.shape[1:], np.float32)
    for number in nearest_pairs(offsets):
        own, other = partners(found.shape, offsets[number])
        values = affinities[number][own]
        np.minimum(found[own], values, out=found[own])
        np.minimum(found[other], values, out=found[other])
    return found


def strongest(affinities: NDArray[np.float32], offsets: Sequence[Offset]) -> NDArray[np.float32]:
    """Return the largest affinity of each voxel to a neighbour; 0 where there is none."""
    found = np.zeros(affinities.shape[1:], np.float32)
    for number in nearest_pairs(offsets):
        own, other = partners(found.shape, offsets[number])
        values = affinities[number][own]
        np.maximum(found[own], values, out=found[own])
        np.maximum(found[other], values, out=found[other])
    return found


def evidence(
    affinities: NDArray[np.float32], offsets: Sequence[Offset], fragments: NDArray[np.int32]
) -> PairEvidence:
    """Return what affinities say of pairs of fragments.

    Parameters
    ----------
    affinities, offsets
        As for :func:`weakest`.
    fragments : ndarray of int32, ([z,] y, x)
        0 is background, of which nothing is said.
    """
    parts = list(_evidence_of_each(affinities, offsets, fragments))
    none = np.zeros(0, np.int64)
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *(pairs for pairs, _ in parts)])
    sums = np.concatenate([none, *(values for _, values in parts)])
    return _summed(pairs, sums, np.ones(len(sums), np.int64))


def _evidence_of_each(
    affinities: NDArray[np.float32], offsets: Sequence[Offset], fragments: NDArray[np.int32]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield for each offset the pairs of fragments, one for each voxel pair, and their evidence."""
    for values, offset in zip(affinities, offsets, strict=True):
        own, other = partners(fragments.shape, offset)
        a, b = fragments[own], fragments[other]
        apart = (a != b) & (a > 0) & (b > 0)
        first, second = a[apart].astype(np.int64), b[apart].astype(np.int64)
        pairs = np.stack([np.minimum(first, second), np.maximum(first, second)], axis=1)
        signed = np.rint(UNIT * (2 * values[own][apart].astype(np.float64) - 1))
        yield pairs, signed.astype(np.int64)


def _summed(
    pairs: NDArray[np.int64], sums: NDArray[np.int64], counts: NDArray[np.int64]
) -> PairEvidence:
    """Return every pair once."""
    if not len(pairs):
        return PairEvidence(pairs, sums, counts)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    pairs = pairs[order]
    first = np.flatnonzero(np.r_[True, (pairs[1:] != pairs[:-1]).any(axis=1)])
    return PairEvidence(
        pairs[first], np.add.reduceat(sums[order], first), np.add.reduceat(counts[order], first)
    )


def join_fragments(found: PairEvidence, count: int) -> NDArray[np.int32]:
    """Return the instance of fragments 0, 1 ... `count`; that of 0 is 0.

    Parameters
    ----------
    found : PairEvidence
        Of the whole volume.
    count : int
        Number of fragments.

    Examples
    --------
    >>> said = PairEvidence(np.array([[1, 2], [2, 3]]), np.array([UNIT, -UNIT]), np.array([1, 1]))
    >>> join_fragments(said, 3).tolist()
    [0, 1, 1, 2]
    """
    means = found.sums / (found.counts * float(UNIT))
    groups = partition(Graph(count, found.pairs - 1, means), how="mutex")
    return np.concatenate([[0], groups]).astype(np.int32)


def label_voxels(
    affinities: NDArray[np.float32], offsets: Sequence[Offset], mask: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Return the mutex watershed of single voxels.

    Affinities to neighbours attract; all affinities repel as far as they are below 1, so that
    neighbours alone suffice.

    Parameters
    ----------
    affinities, offsets
        As for :func:`weakest`.
    mask : ndarray of bool, ([z,] y, x)
        Voxels outside are background.

    Returns
    -------
    ndarray of int32, ([z,] y, x)
        Labels, not numbered one after the other.
    """
    from bioimage_cpp.segmentation import mutex_watershed

    near = nearest_pairs(offsets)
    labels = mutex_watershed(
        np.concatenate([affinities[near], 1 - affinities]),
        [list(offset) for offset in (*(offsets[n] for n in near), *offsets)],
        number_of_attractive_channels=len(near),
        mask=np.ascontiguousarray(mask),
    )
    return np.asarray(labels).astype(np.int32)

"""Of which class every instance is: its voxels vote.

Votes are whole numbers, so that their sums depend on no order: those of blocks, added up, are
those of the whole image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.geometry import Box, grid, whole
from instaseg.io.arrays import ArraySource
from instaseg.io.quantise import dequantise

Index = NDArray[np.int64]
Votes = Callable[[Box], NDArray[np.integer]]
"""From a box to votes for class 1, 2, 3 ... of every voxel, ``(count, [z,] y, x)``."""


@dataclass(frozen=True)
class Ballot:
    """The votes of instances.

    Parameters
    ----------
    channel, label : ndarray of int64, (m,)
        Which instances, ordered by channel, then label; the channel of a label image is 0.
    votes : ndarray of int64, (m, count)
        For class 1, 2, 3 ...
    """

    channel: Index
    label: Index
    votes: Index

    @property
    def classes(self) -> Index:
        """The class with most votes, of equal ones the first; 0 without any vote."""
        if not self.votes.size:
            return np.zeros(len(self.label), np.int64)
        return np.where(self.votes.any(axis=1), 1 + self.votes.argmax(axis=1), 0)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of the votes for the class that won; NaN without any vote."""
        if not self.votes.size:
            return np.full(len(self.label), np.nan)
        total = self.votes.sum(axis=1)
        share = self.votes.max(axis=1) / np.maximum(total, 1)
        return np.where(total > 0, share, np.nan)

    @property
    def table(self) -> Index:
        """All of it as rows of channel, label and votes."""
        return np.column_stack([self.channel, self.label, self.votes])

    @classmethod
    def from_table(cls, table: NDArray[Any]) -> Ballot:
        """Return what :attr:`table` gave."""
        table = table.astype(np.int64)
        return cls(table[:, 0], table[:, 1], table[:, 2:])


def class_ballot(
    instances: ArraySource, votes: Votes, *, ndim: int, count: int, block_shape: Sequence[int]
) -> Ballot:
    """Return the votes of all instances, counted block by block.

    Parameters
    ----------
    instances : ArraySource
        ``([z,] y, x)`` or ``(n, [z,] y, x)`` of bool or int, 0 = background.
    votes : callable
        Of the voxels in a box.
    ndim : {2, 3}
        Number of spatial axes.
    count : int
        Number of classes.
    block_shape : sequence of int
        What is in memory at once, in voxels; it does not change the result.
    """
    space = tuple(instances.shape[-ndim:])
    lead = tuple(slice(0, n) for n in instances.shape[:-ndim])
    boxes = grid(whole(space), tuple(block_shape))
    parts = [count_votes(instances[(*lead, *box.slices)], votes(box), ndim) for box in boxes]
    return added(parts, count)


def count_votes(instances: NDArray[Any], votes: NDArray[np.integer], ndim: int) -> Ballot:
    """Return the votes of the instances in a part of an image.

    Parameters
    ----------
    instances : ndarray of bool or int, ([z,] y, x) or (n, [z,] y, x)
        0 = background.
    votes : ndarray of int, (count, [z,] y, x)
        Not negative.
    ndim : {2, 3}
        Number of spatial axes.

    Examples
    --------
    >>> votes = np.array([[[3, 1, 9, 0]], [[0, 2, 9, 4]]])
    >>> ballot = count_votes(np.array([[7, 7, 0, 2]]), votes, 2)
    >>> ballot.label.tolist(), ballot.votes.tolist(), ballot.classes.tolist()
    ([2, 7], [[0, 4], [4, 2]], [2, 1])
    """
    channels = instances if instances.ndim > ndim else instances[np.newaxis]
    tables = [np.zeros((0, 2 + len(votes)), np.int64)]
    for number, channel in enumerate(channels):
        inside = channel != 0
        labels, position = np.unique(channel[inside].astype(np.int64), return_inverse=True)
        # sums of whole numbers below 2**53 are exact as floats, too
        counted = [
            np.bincount(position, of_class[inside], minlength=len(labels)) for of_class in votes
        ]
        names = np.full(len(labels), number), labels
        tables.append(np.column_stack([*names, *counted]).astype(np.int64))
    return Ballot.from_table(np.concatenate(tables))


def added(ballots: Sequence[Ballot], count: int) -> Ballot:
    """Return the votes of several parts of an image together, for so many classes."""
    table = np.concatenate(
        [np.zeros((0, 2 + count), np.int64), *(ballot.table for ballot in ballots)]
    )
    names, position = np.unique(table[:, :2], axis=0, return_inverse=True)
    votes = np.zeros((len(names), count), np.int64)
    np.add.at(votes, position.ravel(), table[:, 2:])
    return Ballot(names[:, 0], names[:, 1], votes)


def votes_of_probabilities(stored: NDArray[Any]) -> NDArray[np.int64]:
    """Return votes from stored probabilities: each voxel has 255, shared out as they say."""
    if stored.dtype == np.uint8:
        return stored.astype(np.int64)
    return np.rint(255 * dequantise(stored)).astype(np.int64)


def votes_of_classes(classes: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return one vote of every voxel with a class ``([z,] y, x)`` from 1 to `count`."""
    numbers = np.arange(1, count + 1).reshape(-1, *(1,) * classes.ndim)
    return np.asarray(classes[np.newaxis] == numbers, np.int64)

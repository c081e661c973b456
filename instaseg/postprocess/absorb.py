"""Big instances take in the pieces around them, as those of a cell that fell apart."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cached_property, partial

import fastremap
import numpy as np

from instaseg.geometry import grid, partners, whole
from instaseg.postprocess.channel import Channel, Editable, Instance, Labels
from instaseg.postprocess.steps import fill_holes

MOST_OUTSIDE = {2: 0.0, 3: 0.3}
"""Share of a piece that may lie outside the bounding box, by number of axes."""


def absorb_pieces(channel: Editable, least: int) -> None:
    """Give the pieces around big instances to them, then fill the holes of the big ones.

    An instance is a piece of a bigger one if it lies inside its bounding box, up to `MOST_OUTSIDE`,
    and touches it by a face, edge or corner, or touches another of its pieces. Big instances choose
    in the order of their size, of equal ones the smaller label first; each may itself be a piece of
    one before. Holes are filled in all directions, background only.

    Parameters
    ----------
    channel : Channel
        The instances.
    least : int
        Voxels of a big instance.
    """
    found = channel.instances()
    order = sorted(found, key=lambda label: (-found[label].size, label))
    big = [label for label in order if found[label].size >= least]
    if not big:
        return
    touching = _touching(channel)
    rank = {label: n for n, label in enumerate(order)}
    owner: dict[int, int] = {}

    def is_free(other: int, bigger: int) -> bool:
        return rank[other] > rank[bigger] and other not in owner

    for label in big:
        if label not in owner:
            box = _BigBox(channel, found, label)
            pieces = _pieces(label, partial(is_free, bigger=label), box=box, touching=touching)
            owner.update(dict.fromkeys(pieces, label))
    channel.replace(owner)
    fill_holes(channel, [label for label in big if label not in owner])


def _touching(channel: Channel) -> dict[int, set[int]]:
    """Return the labels that each label touches by a face, edge or corner."""
    touching: dict[int, set[int]] = {}
    image, ndim = whole(channel.blocks.shape), channel.ndim
    ways = [way for way in itertools.product((-1, 0, 1), repeat=ndim) if way > (0,) * ndim]
    for box in channel.blocks.boxes:
        values = channel.read(box.grow((1,) * ndim).intersect(image))
        for way in ways:
            here, there = (values[part] for part in partners(values.shape, way))
            both = (here != there) & (here > 0) & (there > 0)
            for a, b in _pairs(here[both], there[both]):
                touching.setdefault(a, set()).add(b)
                touching.setdefault(b, set()).add(a)
    return touching


def _pairs(a: Labels, b: Labels) -> list[tuple[int, int]]:
    """Return the different pairs of two lists of labels."""
    labels = np.union1d(a, b)
    packed = np.searchsorted(labels, a) * len(labels) + np.searchsorted(labels, b)
    found, _ = np.unique(packed, return_counts=True)  # the fast path, by sorting
    first, second = np.divmod(found, max(len(labels), 1))
    return list(zip(labels[first].tolist(), labels[second].tolist(), strict=True))


def _pieces(
    label: int, free: Callable[[int], bool], *, box: _BigBox, touching: Mapping[int, set[int]]
) -> set[int]:
    """Return the pieces of a big instance among those that are free."""
    pieces: set[int] = set()
    todo = [label]
    while todo:
        near = touching.get(todo.pop(), set()) - pieces
        new = {other for other in near if free(other) and box.holds(other)}
        pieces |= new
        todo += new
    return pieces


class _BigBox:
    """The bounding box of a big instance, and how much of others lies in it."""

    def __init__(self, channel: Channel, found: Mapping[int, Instance], label: int) -> None:
        self._channel = channel
        self._found = found
        self._box = found[label].box

    def holds(self, other: int) -> bool:
        """Return whether an instance lies inside, up to `MOST_OUTSIDE`."""
        one, outside = self._found[other], MOST_OUTSIDE[self._channel.ndim]
        if one.box.intersect(self._box) == one.box:
            return True
        return outside > 0 and one.size - self._counts.get(other, 0) <= outside * one.size

    @cached_property
    def _counts(self) -> dict[int, int]:
        """Voxels inside the box by label."""
        counts: Counter[int] = Counter()
        for part in grid(self._box, self._channel.blocks.block_shape):
            values = np.ascontiguousarray(self._channel.read(part))
            labels, sizes = fastremap.unique(values, return_counts=True)
            counts.update(dict(zip(labels.tolist(), sizes.tolist(), strict=True)))
        return counts

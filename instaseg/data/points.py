"""Sites of synapses presented as layers of labels, so that they are cropped and deformed as those.

A site is a cube of three voxels a side around it, which survives zoom and rotation, and whose
centroid is the site wherever deformation takes it. Its label is its row in the table, plus one::

    layer     shows                    labels
    pre       presynaptic sites        their own
    post      postsynaptic sites       their own
    partner   postsynaptic sites       those of their presynaptic partners, 0 for none
    cleft     clefts                   their own
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.geometry import Box, box_of
from instaseg.io.arrays import NO_ATTRIBUTES
from instaseg.io.points import CLEFT, POST, PRE, Points, partners, positions

LAYERS = ("pre", "post", "partner", "cleft")
PRE_LAYER, POST_LAYER, PARTNER_LAYER, CLEFT_LAYER = range(4)


class PointLayers:
    """A table of points as layers ``(4, [z,] y, x)`` of labels, made where they are asked for.

    Parameters
    ----------
    table : (n, 4 + axes) float64
        Points that lie in the volume; see :mod:`instaseg.io.points`.
    shape : tuple of int
        The volume in voxels.
    """

    attributes: Mapping[str, Any] = NO_ATTRIBUTES
    chunks: tuple[int, ...] | None = None
    dtype: np.dtype[Any] = np.dtype(np.int32)

    def __init__(self, table: Points, shape: tuple[int, ...]) -> None:
        self.shape: tuple[int, ...] = (len(LAYERS), *shape)
        self._voxels = np.rint(positions(table)).astype(np.int64)
        kind, partner = table[:, 0], partners(table)
        pre, post, cleft = (np.flatnonzero(kind == one) for one in (PRE, POST, CLEFT))
        # all postsynaptic sites again, so that both layers show the same one at every voxel
        rows, labels = [pre, post, post, cleft], [pre, post, partner[post], cleft]
        self._layers = [
            (r, (own + 1).astype(np.int32)) for r, own in zip(rows, labels, strict=True)
        ]

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[np.int32]:
        return self.in_box(box_of(index[1:], self.shape[1:]))[index[0]]

    def in_box(self, box: Box) -> NDArray[np.int32]:
        """Return all layers in a box, which may leave the volume; nothing is mirrored.

        Where cubes meet, a voxel belongs to the nearest site, of equally near ones to that of the
        lowest row.
        """
        layers = np.zeros((len(LAYERS), *box.shape), np.int32)
        for layer, (rows, labels) in zip(layers, self._layers, strict=True):
            _draw(layer, self._voxels[rows] - np.array(box.begin), labels)
        return layers


def _draw(layer: NDArray[np.int32], voxels: NDArray[np.int64], labels: NDArray[np.int32]) -> None:
    """Draw cubes around `voxels` ``(n, axes)`` into a layer, which they may leave."""
    near = ((voxels >= -1) & (voxels <= np.array(layer.shape))).all(axis=1)
    voxels, labels = voxels[near][::-1], labels[near][::-1]
    steps = np.array(list(itertools.product((-1, 0, 1), repeat=layer.ndim)))
    far = (steps**2).sum(axis=1)
    # what is drawn later stays: nearest last, and of equally near the lowest row
    for distance in range(layer.ndim, -1, -1):
        places = voxels[:, np.newaxis] + steps[far == distance]
        numbers = np.broadcast_to(labels[:, np.newaxis], places.shape[:2])
        inside = ((places >= 0) & (places < np.array(layer.shape))).all(axis=2)
        layer[tuple(places[inside].T)] = numbers[inside]

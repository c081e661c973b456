"""Tiles: which part of an image the network reads for which part of the output.

One axis, with the image mirrored where a box leaves it, and a margin that is predicted too::

      image              |-----------------------------|
      with margin     |mm|-----------------------------|mm|
      tile 0      |hhhh|wwwwwwwwww|hhhh..|
      tile 1                 |hhhh|wwwwwwwwww|hhhh..|
      tile 2                            |hhhh|wwwwwww|hhhhhhh..|

``w`` is written, ``h`` the network's halo, ``..`` what fills the input up to a size that fits its
levels. Every read box begins a whole number of network steps after the first one, and all are of
one shape.

Promises: every voxel of the image with its margin is written exactly once; and its value does not
depend on the shape of the tiles, since the network's pooling grid lies the same for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from instaseg.geometry import Box, Coordinate, Symmetry, reflected_indices, whole
from instaseg.io.arrays import ArraySource
from instaseg.models import shapes

if TYPE_CHECKING:
    from instaseg.models.config import ModelSettings

Normalize = Callable[[NDArray[Any]], NDArray[np.float32]]


@dataclass(frozen=True)
class Frame:
    """What the network needs of read boxes, along the axes of the unturned image.

    Parameters
    ----------
    halo : tuple of int
        Voxels read on each side of a write box.
    read_shape : tuple of int
        Shape of all read boxes.
    """

    halo: Coordinate
    read_shape: Coordinate

    def read_box(self, write: Box) -> Box:
        """Return the box to read for a write box."""
        begin = tuple(b - h for b, h in zip(write.begin, self.halo, strict=True))
        return Box(begin, tuple(b + n for b, n in zip(begin, self.read_shape, strict=True)))


def output_box(shape: Sequence[int], margin: Sequence[int]) -> Box:
    """Return the box that is predicted: an image of `shape` with `margin` voxels on each side."""
    return whole(shape).grow(margin)


def tile_shape(
    settings: ModelSettings, shape: Sequence[int], symmetries: Sequence[Symmetry]
) -> Coordinate:
    """Return the shape of the write boxes for an output of `shape`, in voxels.

    It is the whole output along axes where that fits into `test_input_shape`. Else it is a
    multiple of the network's step (in all turned positions) that divides the output as evenly as it
    can.

    Parameters
    ----------
    settings : ModelSettings
        The network; `test_input_shape` bounds what it reads at once.
    shape : sequence of int
        Of the image with its margin.
    symmetries : sequence of Symmetry
        The turned positions in which the network sees each tile.
    """
    steps, largest = shapes.step(settings), list(settings.test_input_shape)
    reach = shapes.halo(settings)
    tile = []
    for axis, size in enumerate(shape):
        # Axes of the network that this axis of the image may lie along.
        seen = sorted({symmetry.permutation.index(axis) for symmetry in symmetries})
        step = math.lcm(*(steps[i] for i in seen))
        room = min(largest[i] - 2 * reach[i] for i in seen)
        if size <= room:
            tile.append(size)
            continue
        most = max(step, room // step * step)
        count = math.ceil(size / most)
        tile.append(math.ceil(size / count / step) * step)
    return tuple(tile)


def written_share(settings: ModelSettings) -> float:
    """Return which share of the largest tile the network reads is written, for large images."""
    return _share(settings, settings.test_input_shape)


def _share(settings: ModelSettings, shape: Sequence[int]) -> float:
    written = (
        max(step, (n - 2 * reach) // step * step)
        for n, reach, step in zip(shape, shapes.halo(settings), shapes.step(settings), strict=True)
    )
    # A tile that cannot hold one step is read larger than asked for.
    read = (
        max(n, 2 * reach + step)
        for n, reach, step in zip(shape, shapes.halo(settings), shapes.step(settings), strict=True)
    )
    return math.prod(written) / math.prod(read)


def tile_with_share(settings: ModelSettings, share: float) -> Coordinate:
    """Return the largest tile grown, where it is mostly halo, until enough of it is written."""
    shape, reach = list(settings.test_input_shape), shapes.halo(settings)
    while _share(settings, shape) < share:
        worst = max(range(len(shape)), key=lambda axis: reach[axis] / shape[axis])
        shape[worst] += shapes.step(settings)[worst]
    return shapes.input_shape_at_least(settings, shape)


def frame(settings: ModelSettings, tile: Sequence[int], symmetry: Symmetry) -> Frame:
    """Return halo and read shape for tiles of a shape that the network sees turned.

    Parameters
    ----------
    settings : ModelSettings
        The network.
    tile : sequence of int
        Shape of the write boxes, by :func:`tile_shape`.
    symmetry : Symmetry
        How an image is turned before the network sees it.
    """
    # Axis i of the turned image is axis permutation[i] of the image.
    turned = [tile[p] for p in symmetry.permutation]
    back = symmetry.inverse().permutation
    read = shapes.input_shape_for_output(settings, turned)
    halo = shapes.halo(settings)
    return Frame(tuple(halo[i] for i in back), tuple(read[i] for i in back))


def read_mirrored(raw: ArraySource, box: Box, normalize: Normalize) -> NDArray[np.float32]:
    """Return a box of an image that may reach beyond it, where the image is mirrored.

    Parameters
    ----------
    raw : ArraySource
        ``(C, [z,] y, x)``; only the part that shows is read, once.
    box : Box
        In voxels of the image.
    normalize : callable
        Applied to what was read.

    Returns
    -------
    ndarray
        ``(C, *box.shape)`` float32.
    """
    indices = [
        reflected_indices(begin, end, size)
        for begin, end, size in zip(box.begin, box.end, raw.shape[1:], strict=True)
    ]
    first = [int(index.min()) for index in indices]
    part = (slice(int(i.min()), int(i.max()) + 1) for i in indices)
    block = normalize(raw[(slice(0, raw.shape[0]), *part)])
    for axis, (index, begin) in enumerate(zip(indices, first, strict=True), start=1):
        block = np.take(block, index - begin, axis=axis)
    return block

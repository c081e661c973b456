"""The blocks of a volume, and masks kept block by block.

Blocks tile a volume and, inside its margin (what a prediction shows beyond the image), the image::

      volume   |mm|---------------image---------------|mm|
      blocks   |bbbbbbbbbb|bbbbbbbb|bbbbbbbb|bbbbbbbbbbbbbb|     (those at the rim take the margin)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.work import Store
from instaseg.geometry import Box, Coordinate, box_of, grid, whole


@dataclass(frozen=True)
class BlockGrid:
    """Blocks of a volume, numbered in raster order.

    Parameters
    ----------
    shape : tuple of int
        The volume, margin included, in voxels.
    block_shape : tuple of int
        Largest block inside the margin, in voxels.
    margin : tuple of int
        Voxels on each side that are not part of the image; none where left out.
    """

    shape: Coordinate
    block_shape: Coordinate
    margin: Coordinate = ()

    @property
    def image(self) -> Box:
        """The volume without its margin."""
        return whole(self.shape).grow([-m for m in self.margin or (0,) * len(self.shape)])

    @cached_property
    def boxes(self) -> tuple[Box, ...]:
        """The blocks; they are disjoint and their union is the volume."""
        image = self.image
        return tuple(self._with_margin(box, image) for box in grid(image, self.block_shape))

    def _with_margin(self, box: Box, image: Box) -> Box:
        """Return a block of the image, extended to the volume's faces where it lies at the rim."""
        axes = range(len(self.shape))
        return Box(
            tuple(0 if box.begin[a] == image.begin[a] else box.begin[a] for a in axes),
            tuple(self.shape[a] if box.end[a] == image.end[a] else box.end[a] for a in axes),
        )

    def __len__(self) -> int:
        return math.prod(self._counts)

    def __getstate__(self) -> dict[str, Any]:
        """Return what other processes need: no boxes, of which there may be many."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def read_box(self, number: int) -> Box:
        """Return a block and one voxel beyond its upper faces, within the volume."""
        box = self.boxes[number]
        return Box(box.begin, tuple(e + 1 for e in box.end)).intersect(whole(self.shape))

    def next(self, number: int, axis: int) -> int | None:
        """Return the block that follows along an axis, None at the end."""
        if self.boxes[number].end[axis] == self.shape[axis]:
            return None
        return number + math.prod(self._counts[axis + 1 :])

    @cached_property
    def _counts(self) -> Coordinate:
        return tuple(
            math.ceil(n / size) for n, size in zip(self.image.shape, self.block_shape, strict=True)
        )

    def touching(self, box: Box) -> list[int]:
        """Return the numbers of the blocks that share voxels with `box`, ascending."""
        shared = box.intersect(whole(self.shape))
        if not all(shared.shape):
            return []
        corners = np.array([shared.begin, shared.end]) - [[0], [1]]
        first, final = self._places(corners).tolist()
        ranges = [range(f, t + 1) for f, t in zip(first, final, strict=True)]
        numbers = np.ravel_multi_index(np.ix_(*ranges), self._counts)
        return [int(number) for number in numbers.ravel()]

    def at(self, voxels: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the numbers of the blocks that hold voxels ``(n, axes)`` of the volume."""
        numbers = np.ravel_multi_index(tuple(self._places(voxels).T), self._counts)
        return np.asarray(numbers, dtype=np.int64)

    def _places(self, voxels: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return how many blocks lie before those of voxels ``(n, axes)`` along each axis."""
        places = (voxels - np.array(self.image.begin)) // np.array(self.block_shape)
        # those at the rim take the margin
        return np.asarray(np.clip(places, 0, np.array(self._counts) - 1), dtype=np.int64)

    def describe(self, number: int) -> str:
        """Return a block's number and voxels, for messages."""
        box = self.boxes[number]
        sides = ", ".join(f"{b}:{e}" for b, e in zip(box.begin, box.end, strict=True))
        return f"block {number} (voxels {sides})"


def pack(mask: NDArray[np.bool_]) -> dict[str, NDArray[np.uint8]]:
    """Return a mask as bits, for a store; nothing at all where it is empty."""
    return {"bits": np.packbits(mask) if mask.any() else np.zeros(0, np.uint8)}


def read_mask(store: Store, step: str, blocks: BlockGrid, box: Box) -> NDArray[np.bool_]:
    """Return the part of a mask in `box`, from what :func:`pack` gave the store for every block.

    Returns
    -------
    ndarray of bool
        Of the box's shape; False outside the volume.
    """
    mask = np.zeros(box.shape, dtype=bool)
    for number in blocks.touching(box):
        block = blocks.boxes[number]
        packed = store.read(step, number)["bits"]
        if not packed.size:
            continue
        values = np.unpackbits(packed, count=int(np.prod(block.shape))).reshape(block.shape)
        shared = block.intersect(box)
        mask[shared.relative_to(box).slices] = values[shared.relative_to(block).slices]
    return mask


def read_part(store: Store, step: str, blocks: BlockGrid, box: Box, *, name: str) -> NDArray[Any]:
    """Return the part in `box` of an array that every block has in the store under a name.

    Returns
    -------
    ndarray
        Of the box's shape; 0 outside the volume.
    """
    found: NDArray[Any] | None = None
    for number in blocks.touching(box):
        block = blocks.boxes[number]
        values = store.read(step, number, [name])[name]
        if found is None:
            found = np.zeros(box.shape, values.dtype)
        shared = block.intersect(box)
        found[shared.relative_to(box).slices] = values[shared.relative_to(block).slices]
    if found is None:
        raise ValueError(f"{box} lies outside the volume of shape {blocks.shape}")
    return found


def read_every(
    store: Store, step: str, blocks: BlockGrid, names: Sequence[str] | None = None
) -> dict[str, NDArray[Any]]:
    """Return the arrays of all blocks, one behind the other.

    Parameters
    ----------
    store : Store
        Where every block has a result of the step.
    step : str
        Which result.
    blocks : BlockGrid
        How the volume is cut.
    names : sequence of str, optional
        The arrays that are read; all by default.
    """
    return concatenated([store.read(step, number, names) for number in range(len(blocks))])


def concatenated(parts: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Return arrays by name, those of all parts one behind the other.

    Parameters
    ----------
    parts : sequence of mapping of str to ndarray
        At least one; all have the arrays of the first.

    Examples
    --------
    >>> parts = {"ids": np.array([3, 1])}, {"ids": np.array([2])}
    >>> concatenated(parts)["ids"].tolist()
    [3, 1, 2]
    """
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True)
class StoredBlocks:
    """An array that every block has in a store, read part by part as if it lay there whole.

    Parameters
    ----------
    store : Store
        Results of blocks.
    step, name : str
        Which of them.
    blocks : BlockGrid
        How the array is cut.
    dtype : dtype
        Type of the values.
    """

    store: Store
    step: str
    name: str
    blocks: BlockGrid
    dtype: np.dtype[Any]

    @property
    def shape(self) -> Coordinate:
        """Extent per axis."""
        return self.blocks.shape

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        box = box_of(index, self.shape)
        return read_part(self.store, self.step, self.blocks, box, name=self.name)


def within(points: NDArray[np.integer], box: Box) -> NDArray[np.bool_]:
    """Return which of the points ``(n, axes)`` lie in `box`."""
    return np.asarray(
        ((points >= np.array(box.begin)) & (points < np.array(box.end))).all(axis=1), dtype=bool
    )


def automatic_block_shape(
    shape: Sequence[int], *, most: int, least: Sequence[int], halo: Sequence[int] | None = None
) -> Coordinate:
    """Return a block shape of about `most` voxels: the whole volume, or its longest sides halved.

    Parameters
    ----------
    shape : sequence of int
        The volume in voxels.
    most : int
        Voxels of a block with its halo.
    least : sequence of int
        Sides that are not halved any more: halos would outweigh the block.
    halo : sequence of int, optional
        Voxels per axis that are read beside the block, on both sides together; none by default.

    Examples
    --------
    >>> automatic_block_shape((40, 1000, 1000), most=10**6, least=(8, 8, 8))
    (40, 125, 125)
    """
    block = list(shape)
    while np.prod(np.array(block) + np.array(halo or 0), dtype=float) > most:
        wide = [a for a in range(len(block)) if block[a] >= 2 * least[a]]
        if not wide:
            break
        longest = max(wide, key=lambda a: block[a])
        block[longest] = -(-block[longest] // 2)
    return tuple(block)

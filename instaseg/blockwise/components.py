"""Connected components of a volume in blocks: the same as those of the whole volume.

Each block is labelled with one voxel beyond its upper faces, so that every pair of neighbouring
voxels lies in what one block reads. Two blocks that follow each other along an axis both label the
plane where the second begins; labels that meet there are one component::

      block 0     |cccccccccc|u|
      block 1                |cccccccccc|u|
                             ^ upper plane of block 0 = lower plane of block 1

The pieces are :func:`label_block` for every block (a task), then :func:`merge`, which reads planes
and counts only. Components are numbered by their first voxel in raster order, so their numbers do
not depend on the blocks either. Memory is that of one block, and some words per component.
:func:`find_components` does both in one process, with the planes in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cc3d
import fastremap
import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.grid import BlockGrid
from instaseg.geometry import Box
from instaseg.regions.groups import group_linked

Neighbours = Literal["all", "faces"]
_CONNECTIVITY: dict[tuple[int, str], Literal[4, 6, 8, 26]] = {
    (2, "all"): 8,
    (2, "faces"): 4,
    (3, "all"): 26,
    (3, "faces"): 6,
}


@dataclass(frozen=True)
class Components:
    """The components of a volume; number 1 has the first voxel in raster order.

    Parameters
    ----------
    numbers : list of ndarray of int64
        For each block, the component's number of each of its labels; that of label 0 is 0.
    values : ndarray, (n,)
        The value of the voxels of component 1, 2, 3 ...
    sizes : ndarray of int64, (n,)
        Its voxels.
    first : ndarray of int64, (n,)
        Index of its first voxel in the flattened volume.
    """

    numbers: list[NDArray[np.int64]]
    values: NDArray[Any]
    sizes: NDArray[np.int64]
    first: NDArray[np.int64]


def local_labels(values: NDArray[Any], neighbours: Neighbours = "all") -> NDArray[Any]:
    """Return labels 1, 2, 3 ... of connected voxels of one value; the same for the same values.

    Parameters
    ----------
    values : ndarray of bool or unsigned or non-negative int, ([z,] y, x)
        0 is background.
    neighbours : {"all", "faces"}
        Whether voxels that share an edge or a corner are connected too.
    """
    values = np.ascontiguousarray(values)
    if values.dtype == bool:
        # For booleans cc3d 4.1 has another algorithm, which errs in images of an even number of
        # rows and an odd one of columns.
        values = values.view(np.uint8)
    labels: NDArray[Any] = cc3d.connected_components(
        values, connectivity=_CONNECTIVITY[values.ndim, neighbours]
    )
    return labels


def label_block(
    values: NDArray[Any], core_shape: Sequence[int], *, neighbours: Neighbours = "all"
) -> dict[str, NDArray[Any]]:
    """Return what :func:`merge` needs of a block, as arrays for a block store.

    Parameters
    ----------
    values : ndarray of bool or unsigned or non-negative int, ([z,] y, x)
        The block with the voxels beyond its upper faces (:meth:`BlockGrid.read_box`).
    core_shape : sequence of int
        Shape of the block without them.
    neighbours : {"all", "faces"}
        Whether voxels that share an edge or a corner are connected too.

    Returns
    -------
    dict of ndarray
        ``sizes``, ``values`` and ``first`` (index in the flattened block) by label, from label 0
        on, of the block without the voxels beyond it; ``lower_<axis>``, ``upper_<axis>``: labels of
        the first plane along an axis, and of the plane beyond the block where there is one.
    """
    labels = local_labels(values, neighbours)
    core = tuple(slice(0, n) for n in core_shape)
    count = int(labels.max(initial=0)) + 1
    found, first, sizes = fastremap.unique(
        np.ascontiguousarray(labels[core]), return_index=True, return_counts=True
    )
    arrays: dict[str, NDArray[Any]] = {
        "sizes": np.zeros(count, np.int64),
        "values": np.zeros(count, values.dtype),
        "first": np.full(count, -1, np.int64),
    }
    arrays["sizes"][found] = sizes
    arrays["first"][found] = first
    arrays["values"][found] = values[core].reshape(-1)[first]
    for axis, (size, read) in enumerate(zip(core_shape, values.shape, strict=True)):
        arrays[f"lower_{axis}"] = labels.take(0, axis)
        if read > size:
            arrays[f"upper_{axis}"] = labels.take(size, axis)
    return arrays


def merge(
    blocks: BlockGrid, read: Callable[[int, Sequence[str]], Mapping[str, NDArray[Any]]]
) -> Components:
    """Return the components of the volume from those of its blocks.

    Parameters
    ----------
    blocks : BlockGrid
        How the volume was cut.
    read : callable
        From the number of a block and names of arrays to these arrays of :func:`label_block`.
    """
    counts = [read(block, ["sizes", "values", "first"]) for block in range(len(blocks))]
    # Label k of a block is node start + k of a graph; nodes of label 0 are left alone.
    starts = np.cumsum([0, *(len(count["sizes"]) for count in counts)])
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *_links(blocks, read, starts)])
    component = group_linked(pairs, int(starts[-1]))
    first = np.concatenate(
        [np.zeros(0, np.int64), *(_first_in_volume(blocks, b, c) for b, c in enumerate(counts))]
    )
    first[starts[:-1]] = -1
    numbers, firsts = _by_first_voxel(component, first)
    sizes = np.zeros(len(firsts) + 1, np.int64)
    np.add.at(
        sizes, numbers, np.concatenate([np.zeros(0, np.int64), *(c["sizes"] for c in counts)])
    )
    values = np.zeros(len(firsts) + 1, counts[0]["values"].dtype if counts else np.uint8)
    for start, count in zip(starts, counts, strict=False):
        inside = np.flatnonzero(count["sizes"])  # others have no voxel of their own, and no value
        values[numbers[start + inside]] = count["values"][inside]
    values[0] = 0
    return Components(np.split(numbers, starts[1:-1])[: len(blocks)], values[1:], sizes[1:], firsts)


def find_components(
    read: Callable[[Box], NDArray[Any]], blocks: BlockGrid, *, neighbours: Neighbours = "all"
) -> tuple[Components, Callable[[int], NDArray[np.int64]]]:
    """Return the components of a volume that is read part by part, and what numbers a block.

    Parameters
    ----------
    read : callable
        From a box to its values, as for :func:`label_block`; asked twice for every block with the
        voxels beyond its upper faces, which are not to change in between.
    blocks : BlockGrid
        How the volume is cut.
    neighbours : {"all", "faces"}
        Whether voxels that share an edge or a corner are connected too.

    Returns
    -------
    components : Components
        Of the volume.
    numbers : callable
        From the number of a block to the component of every voxel of it, 0 = background.
    """
    results = [
        label_block(read(blocks.read_box(block)), box.shape, neighbours=neighbours)
        for block, box in enumerate(blocks.boxes)
    ]
    components = merge(blocks, lambda block, names: {name: results[block][name] for name in names})

    def numbers(block: int) -> NDArray[np.int64]:
        core = tuple(slice(0, n) for n in blocks.boxes[block].shape)
        labels = local_labels(read(blocks.read_box(block)), neighbours)[core]
        return np.asarray(components.numbers[block][labels])

    return components, numbers


def _links(
    blocks: BlockGrid,
    read: Callable[[int, Sequence[str]], Mapping[str, NDArray[Any]]],
    starts: NDArray[np.int64],
) -> Iterator[NDArray[np.int64]]:
    """Yield pairs ``(n, 2)`` of nodes that are one component, without background."""
    for block in range(len(blocks)):
        for axis in range(len(blocks.shape)):
            following = blocks.next(block, axis)
            if following is None:
                continue
            upper = read(block, [f"upper_{axis}"])[f"upper_{axis}"]
            lower = read(following, [f"lower_{axis}"])[f"lower_{axis}"]
            seen = upper > 0
            pairs = np.stack([upper[seen], lower[seen]], axis=1).astype(np.int64)
            yield np.unique(pairs, axis=0) + np.array([starts[block], starts[following]])


def _first_in_volume(
    blocks: BlockGrid, block: int, count: Mapping[str, NDArray[Any]]
) -> NDArray[np.int64]:
    """Return the index in the flattened volume of each label's first voxel, -1 without one."""
    box, first = blocks.boxes[block], count["first"]
    place = np.unravel_index(np.maximum(first, 0), box.shape)
    moved = tuple(index + begin for index, begin in zip(place, box.begin, strict=True))
    return np.where(first < 0, -1, np.ravel_multi_index(moved, blocks.shape)).astype(np.int64)


def _by_first_voxel(
    component: NDArray[np.int64], first: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give components numbers in the order of their first voxels.

    Parameters
    ----------
    component : ndarray of int64, (nodes,)
        Of each node.
    first : ndarray of int64, (nodes,)
        Index of each node's first voxel; -1 without one.

    Returns
    -------
    numbers : ndarray of int64, (nodes,)
        1, 2, 3 ...; 0 for nodes of components without voxels, which is the background.
    firsts : ndarray of int64, (n,)
        First voxels of the components 1, 2, 3 ..., ascending.
    """
    none = np.iinfo(np.int64).max
    firsts = np.full(int(component.max(initial=-1)) + 1, none)
    there = first >= 0
    np.minimum.at(firsts, component[there], first[there])
    order = np.argsort(firsts, kind="stable")
    n = int(np.count_nonzero(firsts != none))
    number = np.zeros(len(firsts), np.int64)
    number[order[:n]] = np.arange(1, n + 1)
    return number[component], firsts[order[:n]]

"""Overlapping instances packed into layers: few label images in none of which instances overlap.

::

    instance channels       layers
    1 1 1 . . .             1 1 1 3 3 3
    . . 1 1 . .      ►      . . 2 2 . .
    . . . 1 1 1

The packing is written nowhere: which channel goes to which layer follows from one pass over the
channels. In memory the layers are an array; on disk a layer is read from its channels, of which
only those are touched whose bounding box meets what is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.data.classes import IGNORED, ClassMap
from instaseg.geometry import Box, bounding_box, box_of
from instaseg.io.arrays import NO_ATTRIBUTES, Reader, slabs
from instaseg.io.samples import Sample


@dataclass(frozen=True)
class Packing:
    """Which instance channel lies in which layer.

    Parameters
    ----------
    layers : tuple of tuple of int
        The channels of each layer; at least one layer. The instance of channel ``c`` has the id
        ``c + 1`` in every layer image.
    boxes : tuple of Box or None
        Bounding box of each channel; None where it is empty.
    """

    layers: tuple[tuple[int, ...], ...]
    boxes: tuple[Box | None, ...]


def pack(instances: Reader | NDArray[Any]) -> Packing:
    """Distribute instance channels over as few layers as a greedy choice finds.

    Two instances share a layer if they have no voxel in common. Those that overlap most others
    choose first, each the first layer that takes it.

    Parameters
    ----------
    instances : Reader or ndarray
        ``(n, [z,] y, x)``, not 0 inside an instance. Read once, channel by channel, in slabs of 16
        million voxels; of a slab only positions inside of instances are kept.

    Returns
    -------
    Packing
        The same for the same instances.
    """
    count = instances.shape[0]
    conflicts = np.zeros((count, count), dtype=bool)
    boxes: list[Box | None] = [None] * count
    for index in slabs(instances.shape[1:]):
        found = []
        for channel in range(count):
            inside = instances[(slice(channel, channel + 1), *index)][0] != 0
            positions = np.flatnonzero(inside)
            if not positions.size:
                continue
            box = bounding_box(np.unravel_index(positions, inside.shape))
            here = box.shift((index[0].start, *(0,) * (inside.ndim - 1)))
            before = boxes[channel]
            boxes[channel] = here if before is None else _around(before, here)
            found.append((channel, positions))
        for first, second in _overlapping_pairs(found):
            conflicts[first, second] = conflicts[second, first] = True
    return Packing(_greedy(conflicts), tuple(boxes))


def _overlapping_pairs(
    found: list[tuple[int, NDArray[np.intp]]],
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield pairs of channels, as two arrays, that have a position in common."""
    if len(found) < 2:
        return
    positions = np.concatenate([p for _, p in found])
    channels = np.concatenate([np.full(len(p), c, dtype=np.int32) for c, p in found])
    order = np.argsort(positions, kind="stable")
    positions, channels = positions[order], channels[order]
    for step in range(1, len(found)):
        same = np.flatnonzero(positions[step:] == positions[:-step])
        if not same.size:
            return
        pairs = np.unique(np.stack([channels[same], channels[same + step]]), axis=1)
        yield pairs[0].astype(np.intp), pairs[1].astype(np.intp)


def _around(first: Box, second: Box) -> Box:
    """Return the smallest box that holds two."""
    return Box(
        tuple(map(min, first.begin, second.begin)),
        tuple(map(max, first.end, second.end)),
    )


def _greedy(conflicts: NDArray[np.bool_]) -> tuple[tuple[int, ...], ...]:
    """Return the channels of each layer, by colouring those of most conflicts first."""
    order = np.argsort(-conflicts.sum(axis=1), kind="stable")
    layers: list[list[int]] = [[]]
    for channel in order.tolist():
        for layer in layers:
            if not conflicts[channel, layer].any():
                layer.append(channel)
                break
        else:
            layers.append([channel])
    return tuple(tuple(sorted(layer)) for layer in layers)


class PackedLayers:
    """Instance channels presented as layers ``(L, [z,] y, x)``, ids ``channel + 1``.

    Parameters
    ----------
    instances : Reader or ndarray
        ``(n, [z,] y, x)``.
    packing : Packing
        From :func:`pack`.
    """

    attributes: Mapping[str, Any] = NO_ATTRIBUTES
    chunks: tuple[int, ...] | None = None

    def __init__(self, instances: Reader | NDArray[Any], packing: Packing) -> None:
        self._instances = instances
        self._packing = packing
        self.shape: tuple[int, ...] = (len(packing.layers), *instances.shape[1:])
        few = instances.shape[0] < 2**16
        self.dtype: np.dtype[Any] = np.dtype(np.uint16 if few else np.int32)

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        asked = box_of(index[1:], self.shape[1:])
        layers = range(self.shape[0])[index[0]]
        part = np.zeros((len(layers), *asked.shape), dtype=self.dtype)
        for layer in layers:
            for channel in self._packing.layers[layer]:
                box = self._packing.boxes[channel]
                common = None if box is None else asked.intersect(box)
                if common is None or not all(common.shape):
                    continue
                stored = self._instances[(slice(channel, channel + 1), *common.slices)][0]
                inner = common.relative_to(asked)
                part[layer - layers.start][inner.slices][stored != 0] = channel + 1
        return part


class OneLayer:
    """Labels on disk ``([z,] y, x)`` presented as one layer ``(1, [z,] y, x)``."""

    def __init__(self, labels: Reader) -> None:
        self._labels = labels
        self.shape: tuple[int, ...] = (1, *labels.shape)
        self.dtype: np.dtype[Any] = labels.dtype
        self.attributes: Mapping[str, Any] = labels.attributes
        self.chunks: tuple[int, ...] | None = None if labels.chunks is None else (1, *labels.chunks)

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        part: NDArray[Any] = self._labels[index[1:]][np.newaxis]
        return part[index[0]]


class ClassLayer:
    """Labels, or layers of labels, presented as one layer of classes ``(1, [z,] y, x)``, int16.

    Parameters
    ----------
    layers : Reader or ndarray
        ``(l, [z,] y, x)``; several only for instances, which then may overlap.
    class_map : ClassMap
        What their values mean.
    mask : Reader, optional
        ``([z,] y, x)``, not 0 where labels are complete; voxels elsewhere are ignored unless they
        are labelled.
    """

    attributes: Mapping[str, Any] = NO_ATTRIBUTES

    def __init__(
        self,
        layers: Reader | NDArray[Any],
        class_map: ClassMap,
        mask: Reader | None = None,
    ) -> None:
        self._layers = layers
        self._map = class_map
        self._mask = mask
        self.shape: tuple[int, ...] = (1, *layers.shape[1:])
        self.dtype: np.dtype[Any] = np.dtype(np.int16)
        chunks = getattr(layers, "chunks", None)
        self.chunks: tuple[int, ...] | None = None if chunks is None else (1, *chunks[1:])

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        layers = self._layers[(slice(0, self._layers.shape[0]), *index[1:])]
        classes = self._map.apply(layers).max(axis=0, initial=IGNORED)
        if self._mask is not None:
            classes[(self._mask[index[1:]] == 0) & (classes == 0)] = IGNORED
        one_layer: NDArray[Any] = classes[np.newaxis]
        return one_layer[index[0]]


class ClassImage:
    """The one layer of a :class:`ClassLayer` without its leading axis, ``([z,] y, x)``."""

    attributes: Mapping[str, Any] = NO_ATTRIBUTES

    def __init__(self, layer: ClassLayer) -> None:
        self._layer = layer
        self.shape: tuple[int, ...] = layer.shape[1:]
        self.dtype: np.dtype[Any] = layer.dtype
        self.chunks: tuple[int, ...] | None = None if layer.chunks is None else layer.chunks[1:]

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        classes: NDArray[Any] = self._layer[(slice(0, 1), *index)][0]
        return classes


def class_image(sample: Sample, labels: Reader, class_map: ClassMap) -> ClassImage:
    """Return a sample's labels as classes ``([z,] y, x)``, negative where there is no truth."""
    layers = labels if sample.truth == "instances" else OneLayer(labels)
    return ClassImage(ClassLayer(layers, class_map, sample.open_mask()))

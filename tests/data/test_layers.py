"""Instance channels are packed so that no layer loses a voxel, in few layers."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from instaseg.data import layers
from instaseg.data.layers import OneLayer, PackedLayers, pack
from instaseg.geometry import Box
from instaseg.io.arrays import slabs

# 0 and 1 overlap, 1 and 2 overlap; 0 and 2 touch, 3 is alone.
CHANNELS = np.array(
    [
        [[1, 1, 0, 0, 0], [0, 0, 0, 0, 0]],
        [[0, 1, 1, 1, 0], [0, 0, 0, 0, 0]],
        [[0, 0, 1, 1, 0], [0, 0, 0, 1, 0]],
        [[0, 0, 0, 0, 0], [9, 0, 0, 0, 0]],
    ],
    dtype=np.uint8,
)


class Recorded:
    """An array that notes which channels are read, one at a time."""

    def __init__(self, array):
        self.shape, self.dtype, self.read = array.shape, array.dtype, []
        self._array = array

    def __getitem__(self, index):
        assert index[0].stop == index[0].start + 1
        self.read.append(index[0].start)
        return self._array[index]


def test_instances_without_common_voxels_share_a_layer():
    packing = pack(CHANNELS)
    assert packing.layers == ((1, 3), (0, 2))
    assert packing.boxes[2] == Box((0, 2), (2, 4))
    packed = PackedLayers(CHANNELS, packing)
    assert (packed.shape, packed.dtype) == ((2, 2, 5), np.uint16)
    assert packed[slice(0, 2), slice(0, 2), slice(0, 5)].tolist() == [
        [[0, 2, 2, 2, 0], [4, 0, 0, 0, 0]],
        [[1, 1, 3, 3, 0], [0, 0, 0, 3, 0]],
    ]


def test_only_channels_that_lie_there_are_read():
    recorded = Recorded(CHANNELS)
    packed = PackedLayers(recorded, pack(CHANNELS))
    part = packed[slice(0, 2), slice(1, 2), slice(1, 5)]
    assert part.tolist() == [[[0, 0, 0, 0]], [[0, 0, 3, 0]]]
    assert recorded.read == [2]
    assert packed[slice(1, 2), slice(0, 1), slice(0, 2)].tolist() == [[[1, 1]]]


def test_empty_channels_and_no_channels_at_all():
    assert pack(np.zeros((2, 3, 3), bool)).layers == ((0, 1),)
    none = np.zeros((0, 3, 3), bool)
    assert PackedLayers(none, pack(none))[slice(0, 1), slice(0, 3), slice(0, 3)].shape == (1, 3, 3)


def test_a_chain_takes_two_layers_whatever_its_order():
    """Six instances in a row, each overlapping the next; the ends come first."""
    row = np.zeros((6, 1, 20), np.uint8)
    for number, place in enumerate((0, 5, 2, 3, 1, 4)):
        row[number, 0, 3 * place : 3 * place + 4] = 1
    assert len(pack(row).layers) == 2


@settings(max_examples=60)
@given(st.data())
def test_layers_hold_every_voxel_of_every_instance(data):
    shape = data.draw(array_shapes(min_dims=3, max_dims=4, max_side=5))
    channels = data.draw(arrays(np.bool_, shape))
    thickness = data.draw(st.integers(1, 40))

    with_slabs = layers.slabs
    layers.slabs = lambda s: slabs(s, voxels=thickness)
    try:
        packing = pack(channels)
    finally:
        layers.slabs = with_slabs
    assert packing == pack(channels)
    packed = PackedLayers(channels, packing)
    whole = packed[tuple(slice(0, n) for n in packed.shape)]
    assert sorted(c for layer in packing.layers for c in layer) == list(range(shape[0]))
    for layer, members in enumerate(packing.layers):
        for channel in members:
            np.testing.assert_array_equal(whole[layer] == channel + 1, channels[channel])
    begin = [data.draw(st.integers(0, n - 1)) for n in packed.shape]
    part = tuple(slice(b, n) for b, n in zip(begin, packed.shape, strict=True))
    np.testing.assert_array_equal(packed[part], whole[part])


def test_plain_labels_are_one_layer():
    class Labels:
        dtype, shape, chunks, attributes = np.dtype(np.uint16), (2, 5), (1, 5), {}

        def __getitem__(self, index):
            return CHANNELS[1].astype(np.uint16)[index]

    layer = OneLayer(Labels())
    assert (layer.shape, layer.chunks) == ((1, 2, 5), (1, 1, 5))
    assert layer[slice(0, 1), slice(0, 1), slice(2, 5)].tolist() == [[[1, 1, 0]]]

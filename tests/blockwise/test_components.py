"""Components of blocks, joined, are those of the whole volume."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import label

from instaseg.blockwise.components import label_block, local_labels, merge
from instaseg.blockwise.grid import BlockGrid
from instaseg.blockwise.store import open_store


def in_blocks(values, block_shape, neighbours="all"):
    """Return the components of a volume and their numbers at every voxel."""
    blocks = BlockGrid(values.shape, block_shape)
    results = [
        label_block(values[blocks.read_box(i).slices], box.shape, neighbours=neighbours)
        for i, box in enumerate(blocks.boxes)
    ]
    components = merge(blocks, lambda block, names: {name: results[block][name] for name in names})
    numbers = np.zeros(values.shape, np.int64)
    for i, box in enumerate(blocks.boxes):
        labels = local_labels(values[blocks.read_box(i).slices], neighbours)
        core = tuple(slice(0, n) for n in box.shape)
        numbers[box.slices] = components.numbers[i][labels][core]
    return components, numbers


def by_first_voxel(labels):
    """Return labels numbered 1, 2, 3 ... by their first voxel in raster order."""
    found, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    number = np.zeros(len(found), np.int64)
    order = [i for i in np.argsort(first) if found[i] > 0]
    number[order] = np.arange(1, len(order) + 1)
    return number[inverse].reshape(labels.shape)


def test_a_component_that_touches_itself_through_a_corner_of_four_blocks():
    mask = np.zeros((4, 4), bool)
    mask[1, 2] = mask[2, 1] = True
    components, numbers = in_blocks(mask, (2, 2))
    assert components.sizes.tolist() == [2]
    assert components.first.tolist() == [6]
    assert numbers[1, 2] == numbers[2, 1] == 1
    components, _ = in_blocks(mask, (2, 2), "faces")
    assert components.sizes.tolist() == [1, 1]


def test_values_are_kept_and_only_equal_ones_are_joined():
    components, numbers = in_blocks(np.array([[5, 5, 5, 3, 0, 5]], np.uint16), (1, 2))
    assert components.values.tolist() == [5, 3, 5]
    assert components.values.dtype == np.uint16
    assert components.sizes.tolist() == [3, 1, 1]
    assert numbers.tolist() == [[1, 1, 1, 2, 0, 3]]


def test_a_volume_without_foreground_has_no_components():
    components, numbers = in_blocks(np.zeros((3, 5), bool), (2, 2))
    assert len(components.sizes) == len(components.values) == len(components.first) == 0
    assert not numbers.any()


VOLUMES = st.integers(2, 3).flatmap(
    lambda ndim: st.tuples(
        hnp.arrays(
            np.uint8,
            st.tuples(*[st.integers(1, 7 if ndim == 3 else 12)] * ndim),
            elements=st.sampled_from([0, 0, 1, 1, 2]),
        ),
        st.tuples(*[st.integers(1, 8)] * ndim),
    )
)


@pytest.mark.parametrize("shape", [(100, 101), (1, 5), (2, 3), (30, 30, 31)])
def test_masks_are_labelled_right_whatever_the_parity_of_their_sides(shape):
    for seed in range(10):
        mask = np.random.default_rng(seed).random(shape) < 0.4
        wanted, _ = label(mask, np.ones((3,) * mask.ndim))
        np.testing.assert_array_equal(by_first_voxel(local_labels(mask)), wanted)


@given(VOLUMES, st.sampled_from(["all", "faces"]))
@settings(max_examples=150)
def test_any_blocks_give_the_components_of_the_whole(volume, neighbours):
    values, block_shape = volume
    components, numbers = in_blocks(values, block_shape, neighbours)
    wanted = by_first_voxel(local_labels(values, neighbours))
    np.testing.assert_array_equal(numbers, wanted)
    found, first, sizes = np.unique(wanted, return_index=True, return_counts=True)
    there = found > 0
    np.testing.assert_array_equal(components.sizes, sizes[there])
    np.testing.assert_array_equal(components.first, first[there])
    np.testing.assert_array_equal(components.values, values.reshape(-1)[first[there]])
    if neighbours == "all" and values.max() < 2:
        np.testing.assert_array_equal(in_blocks(values > 0, block_shape)[1], wanted)


def test_results_go_through_a_store(tmp_path):
    mask = np.random.default_rng(0).random((9, 10)) < 0.5
    blocks, store = BlockGrid(mask.shape, (4, 4)), open_store(tmp_path, "a")
    for i, box in enumerate(blocks.boxes):
        store.write("components", i, label_block(mask[blocks.read_box(i).slices], box.shape))
    components = merge(blocks, lambda block, names: store.read("components", block, names))
    assert components.sizes.tolist() == in_blocks(mask, mask.shape)[0].sizes.tolist()


@pytest.mark.parametrize(("block", "axis", "following"), [(0, 0, 3), (0, 1, 1), (2, 1, None)])
def test_blocks_know_what_follows(block, axis, following):
    assert BlockGrid((4, 5), (2, 2)).next(block, axis) == following

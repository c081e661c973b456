import pickle

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.errors import DataError
from instaseg.metrics.overlaps import (
    collect,
    depth,
    find_instances,
    hits,
    shared_voxels,
)

LABELS = np.array(
    [
        [4, 4, 0, 9],
        [4, 0, 0, 9],
    ]
)


def everything(instances):
    """Return number + 1 of all instances, ``(n, [z,] y, x)``."""
    return instances.read(tuple(slice(0, n) for n in instances.shape))


def all_of(instances):
    return collect(instances, np.arange(len(instances)))


@settings(max_examples=40)
@given(data=st.data())
def test_what_is_sent_shows_the_same(data):
    """Instances of a window under the same numbers; some instances under numbers from 0."""
    channels = data.draw(st.integers(1, 3))
    labels = data.draw(hnp.arrays(np.uint8, (channels, 6, 7), elements=st.integers(0, 4)))
    found = find_instances(labels, ndim=2, remove_small=data.draw(st.integers(0, 2)))
    rows = slice(data.draw(st.integers(0, 2)), data.draw(st.integers(3, 6)))
    window = (rows, slice(2, 7))
    shown = pickle.loads(pickle.dumps(found.shown_in(window)))
    assert len(shown) == len(found)
    for there, wanted in zip(shown.entries(window), found.entries(window), strict=True):
        assert [part.tolist() for part in there[1:]] == [part.tolist() for part in wanted[1:]]
    if not len(found):
        return
    members = np.array(data.draw(st.permutations(range(len(found)))))[: 1 + len(found) // 2]
    some, every = found.subset(members), np.arange(len(members))
    voxels, wanted = collect(some, every), collect(found, np.sort(members))
    order = np.lexsort((voxels.position, members[voxels.instance]))
    assert members[voxels.instance][order].tolist() == wanted.instance.tolist()
    assert voxels.position[order].tolist() == wanted.position.tolist()
    assert some.sizes.tolist() == found.sizes[members].tolist()


def test_label_image():
    found = find_instances(LABELS, ndim=2)
    assert everything(found).tolist() == [[[1, 1, 0, 2], [1, 0, 0, 2]]]
    assert found.label.tolist() == [4, 9]
    assert found.channel.tolist() == [0, 0]
    assert found.sizes.tolist() == [3, 2]
    assert found.begin.tolist() == [[0, 0], [0, 3]]
    assert found.end.tolist() == [[2, 2], [2, 4]]


def test_same_label_in_two_channels_is_two_instances():
    channels = np.array([[[1, 1, 0]], [[0, 0, 0]], [[0, 1, 1]]], bool)
    found = find_instances(channels, ndim=2)
    assert found.channel.tolist() == [0, 2]
    assert found.sizes.tolist() == [2, 2]
    assert depth(all_of(found), hits(all_of(found), found)).tolist() == [1, 2, 2, 1]
    assert found.overlapping.tolist() == [True, True]
    alone = find_instances(channels[:2], ndim=2)
    assert alone.overlapping.tolist() == [False]


def test_small_ones_are_left_out_and_input_is_not_changed():
    before = LABELS.copy()
    found = find_instances(LABELS, ndim=2, remove_small=2)
    assert found.label.tolist() == [4]
    assert (before == LABELS).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint64, np.int64])
def test_any_integer_type_and_huge_labels(dtype):
    labels = np.array([[0, 1, np.iinfo(dtype).max]], dtype)
    found = find_instances(labels, ndim=2)
    assert everything(found).tolist() == [[[0, 1, 2]]]
    assert found.label.tolist() == [1, np.iinfo(dtype).max]


@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 4, 5), (4, 5), (0, 0)])
def test_nothing_there(shape):
    found = find_instances(np.zeros(shape, np.uint8), ndim=2)
    assert len(found) == 0
    assert len(all_of(found).position) == 0
    assert len(hits(all_of(found), found).voxel) == 0
    assert found.overlapping.tolist() == []


@pytest.mark.parametrize(
    ("array", "ndim", "message"),
    [
        (np.zeros((2, 2)), 2, "truth: labels must be integers; got float64. Convert them"),
        (np.array([[-3, 1]]), 2, "truth: labels must not be negative; found -3."),
        (np.zeros((2, 2), int), 3, r"expected 3 axes for labels or 4 .* got shape \(2, 2\)"),
        (np.zeros((2, 2), int), 4, "ndim must be 2 or 3; got 4"),
    ],
)
def test_bad_labels(array, ndim, message):
    with pytest.raises(DataError, match=message):
        find_instances(array, ndim=ndim, name="truth")


SMALL = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=4),
    elements=st.integers(0, 3),
)


@settings(max_examples=60)
@given(SMALL, st.data())
def test_shared_voxels_equal_counting_every_pair(first, data):
    second = data.draw(
        hnp.arrays(np.uint8, (2, *first.shape[1:]), elements=st.integers(0, 3)), "second"
    )
    true, predicted = find_instances(first, ndim=2), find_instances(second, ndim=2)
    expected = {
        (i, j): int(both)
        for i in range(len(true))
        for j in range(len(predicted))
        if (
            both := (
                (everything(true) == i + 1).any(axis=0)
                & (everything(predicted) == j + 1).any(axis=0)
            ).sum()
        )
    }
    rows, columns, count = shared_voxels(all_of(true), hits(all_of(true), predicted))
    assert dict(zip(zip(rows, columns, strict=True), count, strict=True)) == expected
    assert list(zip(rows, columns, strict=True)) == sorted(expected)


@settings(max_examples=40)
@given(data=st.data(), ndim=st.sampled_from([2, 3]))
def test_blocks_give_what_the_whole_gives(on_disk, data, ndim):
    shape = data.draw(st.tuples(*[st.integers(1, 7)] * ndim))
    array = data.draw(hnp.arrays(np.uint16, (2, *shape), elements=st.integers(0, 3)))
    chunks = data.draw(st.tuples(*[st.integers(1, 4)] * ndim))
    whole = find_instances(array, ndim=ndim, remove_small=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("instaseg.metrics.overlaps._SIDE", {2: 1, 3: 1})
        parts = find_instances(on_disk(array, (1, *chunks)), ndim=ndim, remove_small=1)
        for name in ("channel", "label", "sizes", "begin", "end", "overlapping"):
            assert getattr(parts, name).tolist() == getattr(whole, name).tolist()
        assert everything(parts).tolist() == everything(whole).tolist()
        ours, expected = all_of(parts), all_of(whole)
        assert ours.position.tolist() == expected.position.tolist()
        assert ours.instance.tolist() == expected.instance.tolist()
        found = [shared_voxels(voxels, hits(voxels, parts)) for voxels in (ours, expected)]
    assert [t.tolist() for t in found[0]] == [t.tolist() for t in found[1]]


def test_no_more_than_a_block_is_read_at_once(on_disk):
    array = np.zeros((3, 130, 70, 70), np.uint8)
    array[1, 5, 5, 5] = array[1, 129, 69, 69] = 1
    disk = on_disk(array, (1, 32, 32, 32))
    found = find_instances(disk, ndim=3)
    assert found.occupied.sum() == 2
    assert disk.largest == 64**3
    assert all_of(found).position.tolist() == [(5 * 70 + 5) * 70 + 5, array[0].size - 1]

"""Blocks of a volume: where they lie, and what other processes are sent of them."""

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from instaseg.blockwise.grid import BlockGrid, read_every
from instaseg.blockwise.store import open_store
from instaseg.geometry import Box


@given(st.data())
def test_blocks_that_touch_a_box_are_those_that_share_voxels_with_it(data):
    axes = data.draw(st.sampled_from([2, 3]))
    margin = tuple(data.draw(st.integers(0, 3)) for _ in range(axes))
    shape = tuple(data.draw(st.integers(1, 9)) + 2 * m for m in margin)
    grid = BlockGrid(shape, tuple(data.draw(st.integers(1, 5)) for _ in range(axes)), margin)
    begin = tuple(data.draw(st.integers(-4, 12)) for _ in range(axes))
    box = Box(begin, tuple(b + data.draw(st.integers(0, 8)) for b in begin))
    expected = [n for n, one in enumerate(grid.boxes) if all(one.intersect(box).shape)]
    assert grid.touching(box) == expected


def test_boxes_are_not_sent_to_other_processes():
    grid = BlockGrid((100, 100), (1, 1))
    before = len(pickle.dumps(grid))
    assert len(grid.boxes) == 10_000
    assert len(pickle.dumps(grid)) == before
    assert pickle.loads(pickle.dumps(grid)) == grid


def test_arrays_of_all_blocks_lie_one_behind_the_other(tmp_path):
    store, grid = open_store(tmp_path, "test"), BlockGrid((1, 5), (1, 2))
    for number in range(3):
        rows = np.full((number, 2), number)
        store.write("step", number, {"ids": np.array([number]), "rows": rows})
    found = read_every(store, "step", grid)
    assert found["ids"].tolist() == [0, 1, 2]
    assert found["rows"].tolist() == [[1, 1], [2, 2], [2, 2]]
    assert set(read_every(store, "step", grid, ["ids"])) == {"ids"}


@given(st.data())
def test_blocks_at_voxels_are_those_that_hold_them(data):
    axes = data.draw(st.sampled_from([2, 3]))
    margin = tuple(data.draw(st.integers(0, 2)) for _ in range(axes))
    shape = tuple(data.draw(st.integers(1, 5)) + 2 * m for m in margin)
    grid = BlockGrid(shape, tuple(data.draw(st.integers(1, 4)) for _ in range(axes)), margin)
    expected = np.full(shape, -1)
    for number, box in enumerate(grid.boxes):
        expected[box.slices] = number
    voxels = np.indices(shape).reshape(axes, -1).T
    assert (grid.at(voxels) == expected.reshape(-1)).all()
    assert grid.at(voxels[:0]).shape == (0,)

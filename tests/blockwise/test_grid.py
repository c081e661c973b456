"""Blocks of a volume: where they lie, and what other processes are sent of them."""

import pickle

from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.blockwise.grid import BlockGrid
from instaseg.geometry import Box


@settings(deadline=None)
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

"""Boxes tile a volume once, symmetries undo themselves, mirroring is numpy's."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from instaseg.geometry import (
    Box,
    Symmetry,
    box_of,
    flips,
    grid,
    grid_size,
    identity,
    partners,
    plane_rotations_and_flips,
    reflected_indices,
    whole,
)

shapes = st.lists(st.integers(1, 9), min_size=2, max_size=3).map(tuple)


@given(shapes, st.data())
def test_the_box_of_an_index_is_what_numpy_gives(shape, data):
    ends = st.none() | st.integers(-12, 12)
    index = tuple(slice(data.draw(ends), data.draw(ends)) for _ in shape)
    volume = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(volume[box_of(index, shape).slices], volume[index])


@given(shapes, st.data())
def test_every_voxel_is_in_exactly_one_block(shape, data):
    block = tuple(data.draw(st.integers(1, 10)) for _ in shape)
    covered = np.zeros(shape, int)
    boxes = list(grid(whole(shape), block))
    for box in boxes:
        covered[box.slices] += 1
    assert (covered == 1).all()
    assert len(boxes) == grid_size(whole(shape), block)


def test_boxes_grow_shift_and_meet():
    box = Box((2, 3), (5, 7))
    assert box.shape == (3, 4)
    assert box.grow((1, 2)) == Box((1, 1), (6, 9))
    assert box.shift((-2, -3)) == Box((0, 0), (3, 4))
    assert box.intersect(Box((4, 0), (9, 5))) == Box((4, 3), (5, 5))
    assert box.intersect(Box((6, 0), (9, 9))).shape[0] == 0


@given(st.integers(2, 7), st.integers(0, 6), st.integers(0, 6))
def test_mirroring_is_that_of_numpy(size, before, after):
    expected = np.pad(np.arange(size), (before, after), mode="reflect")
    assert (reflected_indices(-before, size + after, size) == expected).all()


def test_an_axis_of_one_voxel_repeats_it():
    assert reflected_indices(-2, 3, 1).tolist() == [0] * 5


@given(st.permutations(range(3)), st.lists(st.booleans(), min_size=3, max_size=3))
def test_undo_brings_any_symmetry_back(permutation, flipped):
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    symmetry = Symmetry(tuple(permutation), tuple(flipped))
    assert (symmetry.inverse().apply(symmetry.apply(array)) == array).all()


def test_symmetries_of_the_plane_are_eight_different_pictures():
    picture = np.arange(6).reshape(2, 3)
    seen = {
        symmetry.apply(picture).tobytes() + str(symmetry.apply(picture).shape).encode()
        for symmetry in plane_rotations_and_flips(2)
    }
    assert len(seen) == 8
    assert plane_rotations_and_flips(3)[0] == identity(3) == flips(3)[0]
    assert len(flips(3)) == 8


@given(shapes, st.data())
def test_partners_are_all_pairs_at_an_offset_inside_the_array(shape, data):
    offset = tuple(data.draw(st.integers(-11, 11)) for _ in shape)
    places = np.stack(np.indices(shape), axis=-1)
    here, there = (places[index].reshape(-1, len(shape)) for index in partners(shape, offset))
    moved = places.reshape(-1, len(shape)) + offset
    inside = ((moved >= 0) & (moved < shape)).all(axis=1)
    assert (here == places.reshape(-1, len(shape))[inside]).all()
    assert (there == moved[inside]).all()

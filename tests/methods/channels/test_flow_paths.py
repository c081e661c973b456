"""Particles on flows drawn by hand, and against a plain version."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from instaseg.methods.channels import flow_paths


def towards(shape, middles):
    """Return unit vectors from every voxel to the nearest of some voxels, and which one it is."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    away = np.array(middles) - grid[..., None, :]
    nearest = np.linalg.norm(away, axis=-1).argmin(axis=-1)
    vector = np.take_along_axis(away, nearest[..., None, None], axis=-2)[..., 0, :]
    length = np.linalg.norm(vector, axis=-1, keepdims=True)
    unit = np.divide(vector, length, out=np.zeros_like(vector, float), where=length > 0)
    return np.moveaxis(unit, -1, 0).astype(np.float32), nearest + 1


def test_voxels_end_at_the_middle_they_flow_to():
    flow, nearest = towards((20, 31), [(9, 7), (10, 22)])
    mask = np.ones((20, 31), bool)
    ends = flow_paths.follow(flow, mask, steps=100, spacing=(1, 1))
    groups = flow_paths.group_ends(flow_paths.count_hits(ends, mask.shape), 10)
    labels = flow_paths.label_ends(ends, mask, groups)
    assert (labels == nearest).mean() > 0.95
    assert labels.max() == 2


def test_a_volume_of_one_slice_is_an_image():
    flow, _ = towards((12, 15), [(5, 4), (6, 11)])
    mask = np.ones((12, 15), bool)
    mask[3:5, 7] = False
    image = flow_paths.follow(flow, mask, steps=30, spacing=(1, 1))
    deep = np.concatenate([np.zeros((1, 1, 12, 15), np.float32), flow[:, None]])
    volume = flow_paths.follow(deep, mask[None], steps=30, spacing=(5, 1, 1))
    np.testing.assert_array_equal(volume, image)


def test_steps_are_physical():
    flow = np.zeros((2, 9, 9), np.float32)
    flow[0] = 1
    mask = np.ones((9, 9), bool)
    ends = flow_paths.follow(flow, mask, steps=4, spacing=(4.0, 1.0))
    assert ends[0] == 1 * 9  # four steps of 1 along y are one voxel of 4
    assert ends[-1] == 80  # particles stay in the image


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), steps=st.integers(1, 7), ndim=st.sampled_from([2, 3]))
def test_steps_are_those_of_a_plain_version(seed, steps, ndim):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 9, ndim))
    flow = rng.normal(0, 0.6, (ndim, *shape)).astype(np.float32)
    mask = rng.random(shape) < 0.8
    ends = flow_paths.follow(flow, mask, steps=steps, spacing=(1.0,) * ndim)
    place = np.argwhere(mask).T.astype(float)
    limit = np.array(shape)[:, None] - 1
    for _ in range(steps):
        moved = [map_coordinates(np.where(mask, f, 0), place, order=1) for f in flow]
        place = np.clip(place + np.array(moved).reshape(place.shape), 0, limit)
    nearest = np.floor(place + 0.5)
    sure = (np.abs(place + 0.5 - np.round(place + 0.5)) > 1e-3).all(axis=0)
    found = np.array(np.unravel_index(ends, shape))
    np.testing.assert_array_equal(found[:, sure], nearest[:, sure])


def test_a_place_with_few_hits_is_no_peak():
    hits = np.zeros((7, 20), np.int32)
    hits[3, 3], hits[3, 4], hits[3, 15] = 30, 5, 4
    groups = flow_paths.group_ends(hits, 10)
    assert (groups[3, 3], groups[3, 4], groups[3, 15]) == (1, 1, 0)
    assert flow_paths.group_ends(hits, 4)[3, 15] == 2


def test_errors_are_means_over_each_label():
    labels = np.array([[1, 1, 2, 0]], np.int32)
    own = np.zeros((2, 1, 4), np.float32)
    flow = np.array([[[1, 0, 2, 9]], [[0, 0, 1, 9]]], np.float32)
    assert flow_paths.flow_errors(labels, flow, own).tolist() == [0, 0.5, 5]

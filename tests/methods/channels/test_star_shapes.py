"""Star shapes by hand, their overlaps against a plain version."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import Delaunay

from instaseg.methods.channels import star_shapes
from instaseg.methods.channels.targets_rays import directions


def shapes(shape, middles, lengths, scores=None, number=None, spacing=None):
    """Return balls around middles as star shapes."""
    ndim = len(shape)
    number = number or {2: 32, 3: 96}[ndim]
    chosen = np.zeros(shape, bool)
    score = np.zeros(shape, np.float32)
    rays = np.zeros((number, *shape), np.float32)
    for n, (middle, length) in enumerate(zip(middles, lengths, strict=True)):
        chosen[tuple(middle)] = True
        score[tuple(middle)] = 1 - 0.01 * n if scores is None else scores[n]
        rays[(slice(None), *middle)] = length
    return star_shapes.shapes_at(chosen, score, rays, spacing or (1.0,) * ndim)


def test_a_square_from_four_rays():
    found = star_shapes.paint(shapes((7, 7), [(3, 3)], [2.0], number=4), (7, 7))
    expected = np.abs(np.mgrid[-3:4, -3:4]).sum(axis=0) <= 2
    np.testing.assert_array_equal(found, expected)


def test_a_disc_and_a_ball():
    disc = star_shapes.paint(shapes((31, 31), [(15, 15)], [10.4]), (31, 31))
    assert disc.sum() == pytest.approx(np.pi * 10.4**2, rel=0.03)
    ball = star_shapes.paint(shapes((25, 25, 25), [(12, 12, 12)], [9.4]), (25, 25, 25))
    assert ball.sum() == pytest.approx(4 / 3 * np.pi * 9.4**3, rel=0.12)


def test_lengths_are_physical():
    flat = star_shapes.paint(shapes((11, 31), [(5, 15)], [8.4], spacing=(2.0, 1.0)), (11, 31))
    rows, columns = np.nonzero(flat)
    assert (np.ptp(rows), np.ptp(columns)) == (8, 16)


def test_the_better_shape_lies_on_top():
    found = shapes((9, 20), [(4, 6), (4, 11)], [4.0, 4.0], scores=[0.5, 0.9])
    labels = star_shapes.paint(found, (9, 20))
    assert labels[4, 11] == 1
    assert labels[4, 8] == 1
    assert labels[4, 6] == 2


def test_the_less_probable_of_two_that_overlap_is_dropped():
    found = shapes((20, 40), [(10, 10), (10, 12), (10, 25)], [6.0, 6.0, 6.0], [0.5, 0.9, 0.1])
    kept = star_shapes.drop_overlapping(found, (20, 40), 0.4)
    assert kept.middles[:, 2].tolist() == [12, 25]
    everything = star_shapes.drop_overlapping(found, (20, 40), 1.0)
    assert len(everything.middles) == 3


def test_shapes_without_a_voxel_in_the_image_do_not_occur():
    found = shapes((9, 9), [(0, 0)], [0.0])
    assert star_shapes.paint(found, (9, 9)).sum() == 1  # its middle


def inside(middle, corners, faces, shape):
    """Return the voxels of a shape by barycentric coordinates of every simplex."""
    ndim = len(shape)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) - middle
    found = np.zeros(shape, bool)
    for face in faces:
        matrix = corners[face[:ndim]].T.astype(float)
        if abs(np.linalg.det(matrix)) < 1e-12:
            continue
        parts = grid @ np.linalg.inv(matrix).T
        found |= (parts >= -1e-4).all(axis=-1) & (parts.sum(axis=-1) <= 1 + 1e-4)
    return found


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), ndim=st.sampled_from([2, 3]), most=st.sampled_from([0.2, 0.5]))
def test_shapes_are_those_of_a_plain_version(seed, ndim, most):
    rng = np.random.default_rng(seed)
    shape = (14, 17) if ndim == 2 else (8, 9, 10)
    number = 9 if ndim == 2 else 20
    chosen = rng.random(shape) < 12 / np.prod(shape)
    chosen[(0,) * ndim] = True
    rays = rng.uniform(0.3, 6, (number, *shape)).astype(np.float32)
    score = rng.permutation(int(np.prod(shape))).reshape(shape).astype(np.float32)
    found = star_shapes.shapes_at(chosen, score, rays, (1.0,) * ndim)
    masks = [
        inside(middle[3 - ndim :], corners[:, 3 - ndim :], found.faces, shape)
        for middle, corners in zip(found.middles, found.corners, strict=True)
    ]
    kept = []
    for n, mask in enumerate(masks):
        overlaps = [(mask & masks[k]).sum() / (mask | masks[k]).sum() for k in kept]
        if max(overlaps, default=0) <= most:
            kept.append(n)
    best = star_shapes.drop_overlapping(found, shape, most)
    np.testing.assert_array_equal(best.middles, found.middles[kept])
    labels = np.zeros(shape, int)
    for label, n in reversed(list(enumerate(kept, start=1))):
        labels[masks[n]] = label
    np.testing.assert_array_equal(star_shapes.paint(best, shape), labels)


def test_the_faces_of_a_sphere_close_it():
    faces = star_shapes.faces_of(96, 3)
    assert len(faces) == 2 * 96 - 4
    assert Delaunay(directions(96, 3)).convex_hull.shape == faces.shape

"""Targets of rays, against the plain definition."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from instaseg.methods.channels import channels_from_labels
from instaseg.methods.channels.targets_rays import directions


def plain_rays(labels, number, spacing):
    """Walk along every ray, voxel by voxel."""
    spacing = np.array(spacing, float)
    found = np.zeros((number, *labels.shape))
    for ray, direction in enumerate(directions(number, labels.ndim)):
        step = direction / spacing
        step /= np.abs(step).max()
        for place in np.argwhere(labels):
            for n in itertools.count(1):
                there = place + np.floor(np.round(n * step, 9) + 0.5).astype(int)
                inside = ((there >= 0) & (there < labels.shape)).all()
                if not inside or labels[tuple(there)] != labels[tuple(place)]:
                    break
            found[(ray, *place)] = (n - 0.5) * np.linalg.norm(step * spacing)
    return found


@given(labels=arrays.arrays(np.int32, (6, 7), elements=st.integers(0, 2)), number=st.integers(3, 9))
@settings(max_examples=15)
def test_images(labels, number):
    tables = {"rays": {"number": number}}
    found = channels_from_labels(labels, ["rays"], (2, 1), settings=tables)
    np.testing.assert_allclose(found, plain_rays(labels, number, (2, 1)), rtol=1e-5)


def test_volumes():
    labels = np.zeros((6, 7, 8), np.int32)
    labels[1:5, 1:6, 1:4], labels[1:5, 1:6, 4:8] = 1, 2
    found = channels_from_labels(labels, ["rays"], (4, 1, 1), settings={"rays": {"number": 20}})
    np.testing.assert_allclose(found, plain_rays(labels, 20, (4, 1, 1)), rtol=1e-5)


def test_rays_by_hand():
    labels = np.zeros((7, 9), np.int32)
    labels[1:6, 1:8] = 1
    found = channels_from_labels(labels, ["rays"], settings={"rays": {"number": 8}})[:, 3, 3]
    diagonal = 2.5 * np.sqrt(2)
    # towards x, then clockwise on the screen: y points down
    expected = [4.5, diagonal, 2.5, diagonal, 2.5, diagonal, 2.5, diagonal]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_rays_along_axes_measure_physical_units():
    labels = np.zeros((5, 9), np.int32)
    labels[1:4, 1:8] = 1
    found = channels_from_labels(labels, ["rays"], (3, 0.5), settings={"rays": {"number": 4}})
    np.testing.assert_allclose(found[:, 2, 4], [1.75, 4.5, 1.75, 4.5], rtol=1e-6)


def test_rays_of_a_ball_are_its_radius():
    grid = np.mgrid[-12:13, -12:13, -12:13]
    labels = (np.linalg.norm(grid, axis=0) <= 10.2).astype(np.int32)
    found = channels_from_labels(labels, ["rays"])[:, 12, 12, 12]
    assert len(found) == 96
    assert np.abs(found - 10.2).max() < 1


@pytest.mark.parametrize(("number", "ndim"), [(32, 2), (7, 2), (96, 3)])
def test_directions_are_unit_vectors_spread_evenly(number, ndim):
    found = directions(number, ndim)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=0.02)

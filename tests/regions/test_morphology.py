"""Balls in physical units, against scipy with the ball as structuring element."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from instaseg.regions.morphology import (
    closing,
    dilate,
    dilate_labels,
    erode,
    erode_labels,
    opening,
    reach,
)

MASKS = hnp.arrays(bool, st.sampled_from([(6, 7), (4, 5, 6)]))


def ball(radius, spacing):
    sides = reach(radius, spacing)
    axes = np.meshgrid(*[np.arange(-n, n + 1) for n in sides], indexing="ij")
    squared = sum((axis * one) ** 2 for axis, one in zip(axes, spacing, strict=True))
    return squared <= radius**2 * (1 + 1e-9)


@pytest.mark.parametrize("radius", [0.9, 1.0, 1.5, 2**0.5, 3.0])
@given(mask=MASKS)
@settings(max_examples=20)
def test_morphology_is_that_of_scipy_with_a_ball(radius, mask):
    spacing = (2.0, 1.0, 1.0)[-mask.ndim :] if mask.ndim == 3 else (1.0, 0.5)
    element, before = ball(radius, spacing), mask.copy()
    grown = ndimage.binary_dilation(mask, element)
    assert (dilate(mask, radius, spacing) == grown).all()
    shrunk = ndimage.binary_erosion(mask, element, border_value=1)
    assert (erode(mask, radius, spacing) == shrunk).all()
    opened = ndimage.binary_dilation(shrunk, element)
    assert (opening(mask, radius, spacing) == opened).all()
    closed = ndimage.binary_erosion(grown, element, border_value=1)
    assert (closing(mask, radius, spacing) == closed).all()
    assert (mask == before).all()


def test_a_radius_of_nothing_changes_nothing():
    mask, labels = np.array([[True, False]]), np.array([[4, 0]])
    assert dilate(mask, 0, (1, 1)).tolist() == erode(mask, 0, (1, 1)).tolist() == [[True, False]]
    assert dilate_labels(labels, 0, (1, 1)).tolist() == [[4, 0]]
    assert erode_labels(labels, 0, (1, 1)).tolist() == [[4, 0]]


def test_a_ball_is_round_in_physical_units():
    mask = np.zeros((3, 7, 7), bool)
    mask[1, 3, 3] = True
    grown = dilate(mask, 2.0, (2.5, 1, 1))
    assert grown[[0, 2]].sum() == 0
    assert grown[1].sum() == 13
    assert dilate(mask, 2.5, (2.5, 1, 1))[0].sum() == 1


def test_touching_labels_are_eroded_apart_and_grow_until_they_meet():
    labels = np.array([[1, 1, 1, 2, 2, 2]])
    assert erode_labels(labels, 1, (1, 1)).tolist() == [[1, 1, 0, 0, 2, 2]]
    apart = np.array([[0, 2, 0, 0, 0, 1, 0, 0, 0]])
    assert dilate_labels(apart, 2, (1, 1)).tolist() == [[2, 2, 2, 1, 1, 1, 1, 1, 0]]


@pytest.mark.parametrize(
    ("radius", "spacing", "voxels"),
    [(0.5, (1, 1), (0, 0)), (3.0, (4, 1, 0.5), (0, 3, 6)), (0.3, (0.1, 0.1), (3, 3))],
)
def test_how_far_a_ball_reaches(radius, spacing, voxels):
    assert reach(radius, spacing) == voxels

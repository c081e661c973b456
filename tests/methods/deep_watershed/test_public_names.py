"""The two functions that other programs call: from labels to energy and back."""

import numpy as np
import pytest

from instaseg.errors import DataError
from instaseg.methods.deep_watershed import instances_from_energy, targets_from_labels


def test_touching_cells_come_back():
    labels = np.zeros((12, 20), np.uint16)
    labels[2:10, 2:10], labels[2:10, 10:18] = 5, 9
    made = targets_from_labels(labels)
    found = instances_from_energy(made.depth, labels > 0, labelling={"cut": 1.0})
    np.testing.assert_array_equal(found, np.where(labels == 5, 1, np.where(labels == 9, 2, 0)))


def test_settings_are_those_of_the_method():
    labels = np.repeat([[1, 1, 1, 1, 2, 2, 2, 2]], 3, axis=0)
    made = targets_from_labels(labels, settings={"wall_width": 3, "edges": [0.5, 1.2]})
    assert made.levels.max() == 2
    assert (made.classes == 2).any()  # walls
    assert not (targets_from_labels(labels).classes == 2).any()


def test_shapes_must_agree():
    with pytest.raises(DataError, match=r"expected one shape .* found \[4, 4\] and \[4, 5\]"):
        instances_from_energy(np.zeros((4, 4)), np.zeros((4, 5)))

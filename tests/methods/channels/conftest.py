"""Labels that several tests look at."""

import numpy as np
import pytest


@pytest.fixture
def touching_labels():
    """Two boxes that touch."""
    labels = np.zeros((7, 10), np.int32)
    labels[2:5, 1:4] = 1
    labels[2:5, 4:9] = 2
    labels.setflags(write=False)
    return labels


@pytest.fixture
def many_labels():
    """About 60 balls without order, some cut by the border, some in touch; odd sizes and ids."""
    rng = np.random.default_rng(4)
    labels = np.zeros((72, 80), np.int32)
    grid = np.mgrid[:72, :80]
    for number in range(60):
        middle = rng.uniform(0, (72, 80))
        radius = rng.uniform(1, 5)
        away = np.hypot(*(axis - m for axis, m in zip(grid, middle, strict=True)))
        labels[(away < radius) & (labels == 0)] = 256 * (number + 1)
    labels.setflags(write=False)
    return labels

"""Small worlds shared by the tests of assembly."""

import numpy as np
import pytest

from instaseg.methods.patches.consensus import VoteRule
from instaseg.methods.patches.offsets import complete, window


def _random_world(seed, shape, patch_shape):
    rng = np.random.default_rng(seed)
    patch = window(patch_shape)
    affinities = rng.random((patch.size, *shape), dtype=np.float32)
    foreground = rng.random(shape) < 0.8
    overlap = rng.random(shape) < 0.1
    return affinities, foreground, overlap, foreground & complete(shape, patch.radius)


@pytest.fixture(scope="session")
def random_world():
    """Return a maker of random affinities (K, z, y, x), foreground, overlap and centres."""
    return _random_world


@pytest.fixture(scope="session")
def rule_of():
    """Return a maker of vote rules from label settings."""
    return lambda s: VoteRule(s.patch_threshold, s.background, s.vote, s.consensus)


@pytest.fixture(scope="session")
def six_pixels():
    """Return affinities (3, 1, 1, 6) of six foreground pixels with patches of three.

    Every patch says 0.9 of itself and of its right, and 0.2 of its left. Patches 0 and 5 cross the
    border. With a threshold of 0.5, "not mine" is below 0.5::

        pixel     0    1    2    3    4    5
        patch 1  .2   .9   .9
        patch 2       .2   .9   .9
        patch 3            .2   .9   .9
        patch 4                 .2   .9   .9
    """
    column = np.array([0.2, 0.9, 0.9], dtype=np.float32)[:, None, None, None]
    return np.ascontiguousarray(np.broadcast_to(column, (3, 1, 1, 6)))


@pytest.fixture
def touching_squares():
    """Return labels (14, 17) of two squares that share an edge, and of one on its own."""
    labels = np.zeros((14, 17), dtype=np.int32)
    labels[4:9, 4:8] = 1
    labels[4:9, 8:12] = 2
    labels[10:13, 5:10] = 3
    return labels

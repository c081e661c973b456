"""Ranking: a score worked out by hand, then the kernel against the plain version."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.methods.patches import numpy_ref, rank_patches
from instaseg.methods.patches.config import LabelSettings
from instaseg.methods.patches.consensus import consensus
from instaseg.methods.patches.offsets import window
from instaseg.methods.patches.ranking import rank

SHAPES = st.sampled_from([((1, 7, 8), (3, 3)), ((1, 6, 9), (3, 5)), ((5, 6, 6), (3, 3, 3))])
CHOICES = st.fixed_dictionaries(
    {
        "patch_threshold": st.sampled_from([0.0, 0.3, 0.5, 0.7, 0.9]),
        "background": st.sampled_from(["inverse", "half", "less_than"]),
        "vote": st.sampled_from(["normalized_product", "product"]),
        "consensus": st.sampled_from(["mean", "sum"]),
    }
)
AGREE, OPPOSE = (0.81 - 0.25) / 0.75, (0.72 - 0.25) / 0.75


def test_scores_of_six_pixels(six_pixels):
    # Patch 1 owns pixels 1 and 2, not pixel 0. Its pairs: (1, 2) own, (1, 0) and (2, 0) against:
    #   consensus(1, 2) - consensus(1, 0) - consensus(2, 0), over 3 pairs; see test_consensus.
    # Patch 4 owns 4 and 5, not 3; (4, 5) has one vote, (3, 4) two, (3, 5) one.
    mixed = (AGREE - OPPOSE) / 2
    scores = rank_patches(six_pixels[:, 0], np.ones((1, 6), dtype=bool), (1, 3))
    expected = [-1, (mixed + 2 * OPPOSE) / 3, None, None, (AGREE - mixed + OPPOSE) / 3, -1]
    for score, value in zip(scores[0], expected, strict=True):
        assert value is None or score == pytest.approx(value, abs=1e-4)
    assert scores.dtype == np.float32


def test_background_centres_are_no_candidates(six_pixels):
    foreground = np.array([[True, True, False, True, True, True]])
    assert rank_patches(six_pixels[:, 0], foreground, (1, 3))[0, 2] == -1


@given(
    seed=st.integers(0, 99), world=SHAPES, choices=CHOICES, how=st.sampled_from(["sum", "signs"])
)
@settings(max_examples=25)
def test_equals_plain_version(random_world, rule_of, seed, world, choices, how):
    shape, patch_shape = world
    affinities, foreground, overlap, centres = random_world(seed, shape, patch_shape)
    visible = foreground & ~overlap
    patch = window(patch_shape)
    chosen = LabelSettings(rank=how, **choices)
    votes = consensus(affinities, visible, centres, window=patch, rule=rule_of(chosen))
    found = rank(affinities, votes, centres, rule=rule_of(chosen), signs=how == "signs")
    plain = numpy_ref.consensus(affinities, visible, centres, patch.shape, chosen)
    expected = numpy_ref.rank(affinities, plain, visible, centres, patch.shape, chosen)
    tolerance = 1e-4 if chosen.consensus == "mean" else 3e-3
    np.testing.assert_allclose(found, expected, atol=tolerance)


def test_a_flat_volume_equals_an_image(random_world):
    affinities, foreground, overlap, _ = random_world(2, (1, 9, 9), (3, 3))
    flat = rank_patches(affinities[:, 0], foreground[0], (1, 3, 3), overlap=overlap[0])
    volume = rank_patches(affinities, foreground, (1, 3, 3), overlap=overlap)
    assert np.array_equal(flat, volume[0])


def test_swapped_axes(random_world):
    affinities, foreground, _, _ = random_world(4, (1, 9, 11), (3, 5))
    plain = rank_patches(affinities[:, 0], foreground[0], (3, 5))
    turned = affinities[:, 0].reshape(3, 5, 9, 11).transpose(1, 0, 3, 2).reshape(15, 11, 9)
    np.testing.assert_allclose(rank_patches(turned, foreground[0].T, (5, 3)).T, plain, atol=1e-5)


def test_inputs_are_not_changed(random_world):
    affinities, foreground, overlap, _ = random_world(4, (1, 9, 11), (3, 5))
    copies = affinities.copy(), foreground.copy(), overlap.copy()
    rank_patches(affinities[:, 0], foreground[0], (3, 5), overlap=overlap[0])
    for before, after in zip(copies, (affinities, foreground, overlap), strict=True):
        assert np.array_equal(before, after)

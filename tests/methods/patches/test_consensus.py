"""Consensus: votes worked out by hand, then the kernels against the plain version."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.errors import DataError
from instaseg.methods.patches import numpy_ref
from instaseg.methods.patches.config import LabelSettings
from instaseg.methods.patches.consensus import LARGEST, VoteRule, consensus
from instaseg.methods.patches.offsets import complete, window

SHAPES = st.sampled_from([((1, 7, 8), (3, 3)), ((1, 6, 9), (3, 5)), ((5, 6, 6), (3, 3, 3))])
CHOICES = st.fixed_dictionaries(
    {
        "patch_threshold": st.sampled_from([0.0, 0.3, 0.5, 0.7, 0.9]),
        "background": st.sampled_from(["inverse", "half", "less_than"]),
        "vote": st.sampled_from(["normalized_product", "product", "count"]),
        "consensus": st.sampled_from(["mean", "sum"]),
    }
)


def as_matrix(found, shape):
    """Return the fast consensus as the (N, N) matrix of the plain one."""
    place = np.argwhere(found.index >= 0)
    size = int(np.prod(shape))
    matrix = np.zeros((size, size))
    for i, p in enumerate(place):
        for q in place[i + 1 :]:
            if (np.abs(q - p) < np.array(found.window.shape)).all():
                value = found.rows[i, found.window.pair(q - p)] * found.scale
                a, b = np.ravel_multi_index(p, shape), np.ravel_multi_index(q, shape)
                matrix[a, b] = matrix[b, a] = value
    return matrix


# The world is drawn in conftest.py (six_pixels); th = 0.5, weights (x - .25) / .75:
#
#     mine, mine:      .9 * .9       = .81 -> .746667
#     mine, not mine:  .9 * (1 - .2) = .72 -> .626667, counted against
AGREE, OPPOSE = (0.81 - 0.25) / 0.75, (0.72 - 0.25) / 0.75


def line_consensus(affinities, rule):
    visible = np.ones((1, 1, 6), dtype=bool)
    patch = window((1, 3))
    return consensus(
        affinities, visible, complete((1, 1, 6), patch.radius), window=patch, rule=rule
    )


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        pytest.param((0, 1), -OPPOSE, id="only patch 1, against"),
        pytest.param((0, 2), -OPPOSE, id="only patch 1, at distance two"),
        pytest.param((1, 2), (AGREE - OPPOSE) / 2, id="patch 1 for, patch 2 against"),
        pytest.param((2, 3), (AGREE - OPPOSE) / 2, id="patch 2 for, patch 3 against"),
        pytest.param((4, 5), AGREE, id="only patch 4, for"),
        pytest.param((0, 3), 0.0, id="no patch sees both"),
    ],
)
def test_votes_of_six_pixels(six_pixels, pair, expected):
    matrix = as_matrix(line_consensus(six_pixels, VoteRule()), (1, 1, 6))
    assert matrix[pair] == pytest.approx(expected, abs=2 / LARGEST)


def test_sum_is_not_divided(six_pixels):
    found = as_matrix(line_consensus(six_pixels, VoteRule(consensus="sum")), (1, 1, 6))
    assert found[1, 2] == pytest.approx(AGREE - OPPOSE, abs=2e-4)


def test_counting_ignores_probabilities(six_pixels):
    found = as_matrix(line_consensus(six_pixels, VoteRule(vote="count")), (1, 1, 6))
    assert found[0, 1] == pytest.approx(-1, abs=1e-4)
    assert found[1, 2] == 0
    assert found[4, 5] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("background", "threshold", "limit"),
    [("inverse", 0.7, 0.3), ("inverse", 0.3, 0.3), ("half", 0.7, 0.35), ("less_than", 0.7, 0.7)],
)
def test_background_limit(background, threshold, limit):
    assert VoteRule(threshold, background).below == pytest.approx(limit)


@given(seed=st.integers(0, 99), world=SHAPES, choices=CHOICES)
@settings(max_examples=25)
def test_equals_plain_version(random_world, rule_of, seed, world, choices):
    shape, patch_shape = world
    affinities, foreground, overlap, centres = random_world(seed, shape, patch_shape)
    visible = foreground & ~overlap
    patch = window(patch_shape)
    chosen = LabelSettings(**choices)
    found = consensus(affinities, visible, centres, window=patch, rule=rule_of(chosen))
    # thresholds are compared in float32, as the affinities are
    expected = numpy_ref.consensus(affinities, visible, centres, patch.shape, chosen)
    expected[~np.outer(visible.ravel(), visible.ravel())] = 0
    np.testing.assert_allclose(as_matrix(found, shape), expected, atol=1.01 * found.scale + 1e-6)


def test_plain_version_equals_brute_force(random_world):
    """The plain version's matrices against loops over pairs and patches, one vote at a time."""
    affinities, foreground, overlap, centres = random_world(3, (1, 5, 6), (3, 3))
    visible = (foreground & ~overlap)[0]
    expected = np.zeros((30, 30))
    for p in np.ndindex(5, 6):
        for q in np.ndindex(5, 6):
            votes = []
            for c in np.argwhere(centres[0]):
                inside = [np.abs(np.subtract(v, c)).max() <= 1 for v in (p, q)]
                if not all(inside) or not visible[p] or not visible[q] or p == q:
                    continue
                a, b = (
                    affinities[(v[0] - c[0] + 1) * 3 + v[1] - c[1] + 1, 0, c[0], c[1]]
                    for v in (p, q)
                )
                a, b = float(a), float(b)
                if a > 0.5 and b > 0.5:
                    votes.append((a * b - 0.25) / 0.75)
                elif a > 0.5 > b:
                    votes.append(-(a * (1 - b) - 0.25) / 0.75)
                elif b > 0.5 > a:
                    votes.append(-(b * (1 - a) - 0.25) / 0.75)
            expected[p[0] * 6 + p[1], q[0] * 6 + q[1]] = np.mean(votes) if votes else 0
    found = numpy_ref.consensus(affinities, visible[None], centres, (1, 3, 3), LabelSettings())
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.fixture
def large_world(random_world):
    affinities, foreground, overlap, centres = random_world(1, (1, 70, 90), (5, 5))
    return affinities, foreground & ~overlap, centres, window((5, 5))


def test_a_block_equals_the_whole(large_world):
    """What a block with a margin computes inside is exactly what the whole computes there."""
    affinities, visible, centres, patch = large_world
    whole = consensus(affinities, visible, centres, window=patch, rule=VoteRule())
    box = (slice(None), slice(7, 60), slice(13, 71))
    part = consensus(
        affinities[(slice(None), *box)], visible[box], centres[box], window=patch, rule=VoteRule()
    )
    inner = (slice(None), slice(20, 45), slice(30, 55))
    shifted = (slice(None), slice(13, 38), slice(17, 42))
    mine, other = whole.index[inner], part.index[shifted]
    assert np.array_equal(whole.rows[mine[mine >= 0]][:, 1:], part.rows[other[other >= 0]][:, 1:])


@pytest.mark.parametrize("dtype", [np.float16, np.uint8])
def test_stored_affinities(random_world, dtype):
    affinities, foreground, _, centres = random_world(5, (1, 8, 9), (3, 3))
    stored = (
        np.round(affinities * 255).astype(np.uint8)
        if dtype == np.uint8
        else affinities.astype(dtype)
    )
    plain = stored.astype(np.float32) * np.float32(1 / 255 if dtype == np.uint8 else 1)
    patch = window((3, 3))
    found = [
        consensus(a, foreground, centres, window=patch, rule=VoteRule()).rows
        for a in (stored, plain)
    ]
    assert np.array_equal(*found)


@pytest.mark.parametrize("value", [np.nan, 1.5, -0.5])
def test_values_that_are_no_probabilities(random_world, value):
    affinities, foreground, _, centres = random_world(5, (1, 8, 9), (3, 3))
    affinities[4][centres] = value
    with pytest.raises(
        DataError, match=r"must be probabilities between 0 and 1.*NaN or out of range"
    ):
        consensus(affinities, foreground, centres, window=window((3, 3)), rule=VoteRule())

"""Cover and thin out, on drawn worlds and against the plain versions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.methods.patches import bits, numpy_ref
from instaseg.methods.patches.cover import cover, passes
from instaseg.methods.patches.offsets import complete, window
from instaseg.methods.patches.thin_out import thin_out


def run_cover(affinities, scores, mask, patch_shape, least):
    """Return the x of the patches selected from all complete ones."""
    patch = window(patch_shape)
    centres = complete(mask.shape, patch.radius)
    claims = bits.patch_bits(affinities, centres, window=patch, threshold=0.5)
    positions = np.argwhere(centres)
    return (
        cover(scores[centres], claims, positions, mask=mask, window=patch, least=least),
        claims,
        positions,
    )


# Six pixels, patches of three. What each patch claims, and its score:
#
#     pixel     0  1  2  3  4  5    score
#     patch 1   x  x                 .5
#     patch 2      x  x              .9
#     patch 3         x  x           .7
#     patch 4            x  x  x     .6
#
# 2 takes 1 and 2; 3 adds pixel 3; 4 adds 4 and 5; 1 adds 0.
CLAIMS = np.zeros((3, 1, 1, 6), dtype=np.float32)
CLAIMS[[0, 1, 0, 1, 0, 1, 0, 1, 2], 0, 0, [1, 1, 2, 2, 3, 3, 4, 4, 4]] = 1
SCORES = np.array([0, 0.5, 0.9, 0.7, 0.6, 0])[None, None]
ALL = np.ones((1, 1, 6), dtype=bool)


@pytest.mark.parametrize(
    ("least", "expected"),
    [
        pytest.param((0,), [2, 3, 4, 1], id="any new pixel is enough"),
        pytest.param((1,), [2, 4], id="two new pixels"),
        pytest.param((1, 0), [2, 4, 1], id="two first, then any: patch 3 has nothing to add"),
        pytest.param((2,), [4], id="three new pixels"),
    ],
)
def test_selection_of_six_pixels(least, expected):
    picked, _, positions = run_cover(CLAIMS, SCORES, ALL, (1, 3), least)
    assert positions[picked, 2].tolist() == expected


def test_thin_out_of_six_pixels():
    # In the order 2 3 4 1: 4 covers three pixels, then 2 two of the rest, then 1 the last; 3 none.
    picked, claims, positions = run_cover(CLAIMS, SCORES, ALL, (1, 3), (0,))
    kept = thin_out(claims[picked], positions[picked], mask=ALL, window=window((1, 3)))
    assert positions[picked][kept, 2].tolist() == [2, 4, 1]


def test_equal_scores_are_walked_in_raster_order():
    picked, _, positions = run_cover(CLAIMS, np.zeros((1, 1, 6)), ALL, (1, 3), (1,))
    assert positions[picked, 2].tolist() == [1, 3, 4]


@pytest.mark.parametrize(
    ("how", "size", "expected"),
    [
        ("dense", 625, (100, 50, 10, 0)),
        ("dense", 49, (10, 0)),
        ("dense", 9, (0,)),
        ("sparse", 625, (0,)),
    ],
)
def test_passes(how, size, expected):
    assert passes(how, size) == expected


@given(
    seed=st.integers(0, 99), shape=st.sampled_from([((1, 9, 140), (3, 71)), ((4, 7, 8), (3, 3, 5))])
)
@settings(max_examples=15)
def test_equal_plain_versions(seed, shape):
    volume, patch_shape = shape
    rng = np.random.default_rng(seed)
    patch = window(patch_shape)
    affinities = rng.random((patch.size, *volume), dtype=np.float32)
    scores = np.round(rng.random(volume), 1)
    mask = rng.random(volume) < 0.7
    picked, claims, positions = run_cover(affinities, scores, mask, patch_shape, (10, 0))
    plain = [numpy_ref.patch_of(affinities, c, patch.shape) > 0.5 for c in positions]
    expected = numpy_ref.cover([scores[tuple(c)] for c in positions], plain, mask, (10, 0))
    assert picked.tolist() == expected
    kept = thin_out(claims[picked], positions[picked], mask=mask, window=patch)
    assert kept.tolist() == numpy_ref.thin_out([plain[i] for i in picked], mask)


def test_gathered_bits_are_the_same():
    rng = np.random.default_rng(0)
    affinities = rng.random((15, 4, 9, 9), dtype=np.float32)
    centres = complete((4, 9, 9), (0, 1, 2))
    patch = window((1, 3, 5))
    everywhere = bits.patch_bits(affinities, centres, window=patch, threshold=0.4)
    some = np.argwhere(centres)[[5, 3, 8]]
    found = bits.gather_bits(affinities, some, window=patch, threshold=0.4)
    assert np.array_equal(found, everywhere[[5, 3, 8]])

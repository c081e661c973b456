"""The torch kernels on the CPU against the numba kernels; on a GPU where there is one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.errors import DataError
from instaseg.methods.patches import torch_kernels
from instaseg.methods.patches.config import LabelSettings
from instaseg.methods.patches.consensus import Consensus, VoteRule, consensus
from instaseg.methods.patches.kernels import choose_kernels
from instaseg.methods.patches.offsets import complete, window
from instaseg.methods.patches.ranking import rank
from instaseg.methods.patches.torch_kernels import TorchKernels

TWIN = TorchKernels(torch.device("cpu"))
AGREE, OPPOSE = (0.81 - 0.25) / 0.75, (0.72 - 0.25) / 0.75

WORLDS = st.sampled_from(
    [
        ((1, 7, 8), (3, 3)),
        ((1, 6, 9), (3, 5)),
        ((1, 16, 15), (7, 5)),
        ((5, 6, 6), (3, 3, 3)),
        ((4, 9, 8), (1, 5, 3)),
        ((7, 6, 8), (5, 3, 3)),
    ]
)
CHOICES = st.fixed_dictionaries(
    {
        "patch_threshold": st.sampled_from([0.0, 0.3, 0.5, 0.7, 0.9]),
        "background": st.sampled_from(["inverse", "half", "less_than"]),
        "vote": st.sampled_from(["normalized_product", "product", "count"]),
        "consensus": st.sampled_from(["mean", "sum"]),
    }
)


def test_votes_and_scores_of_six_pixels(six_pixels):
    """The pairs that test_consensus.py and test_ranking.py work out by hand."""
    everywhere, patch = np.ones((1, 1, 6), dtype=bool), window((1, 3))
    centres = complete((1, 1, 6), patch.radius)
    votes = TWIN.consensus(six_pixels, everywhere, centres, window=patch, rule=VoteRule())
    mixed = (AGREE - OPPOSE) / 2
    #                0-1      1-2    2-3    3-4    4-5
    expected = [-OPPOSE, mixed, mixed, mixed, AGREE]
    np.testing.assert_allclose(votes.rows[:5, 1] * votes.scale, expected, atol=1e-4)
    scores = TWIN.rank(six_pixels, votes, centres, rule=VoteRule(), signs=False)[0, 0]
    known = [-1, (mixed + 2 * OPPOSE) / 3, (AGREE - mixed + OPPOSE) / 3, -1]
    np.testing.assert_allclose(scores[[0, 1, 4, 5]], known, atol=1e-4)


def compare(kernels, world, rule, *, signs="sum", dtype=np.float32, wanted=None):
    """Check consensus and scores of `kernels` against those of numba."""
    affinities, visible, centres, patch = world
    if dtype == np.uint8:
        affinities = np.round(affinities * 255)
    affinities = affinities.astype(dtype)
    ours = kernels.consensus(affinities, visible, centres, window=patch, rule=rule, wanted=wanted)
    theirs = consensus(affinities, visible, centres, window=patch, rule=rule, wanted=wanted)
    assert np.array_equal(ours.index, theirs.index)
    assert ours.scale == theirs.scale
    assert ours.rows.dtype == np.int16
    # One fixed-point unit where a sum of another order rounds to the other side.
    assert ours.rows.shape == theirs.rows.shape
    assert np.abs(ours.rows[:, 1:].astype(int) - theirs.rows[:, 1:]).max(initial=0) <= 1
    scores = [
        one.rank(affinities, votes, centres, rule=rule, signs=signs == "signs")
        for one, votes in ((kernels, ours), (choose_kernels("cpu"), theirs))
    ]
    unit = 1 if rule.consensus == "mean" else patch.size
    np.testing.assert_allclose(*scores, atol=1e-4 * unit, rtol=0)


def random_volume(random_world, seed, shape, patch_shape):
    affinities, foreground, overlap, centres = random_world(seed, shape, patch_shape)
    return affinities, foreground & ~overlap, centres, window(patch_shape)


@given(
    seed=st.integers(0, 99),
    world=WORLDS,
    choices=CHOICES,
    how=st.sampled_from(["sum", "signs"]),
    dtype=st.sampled_from([np.float32, np.float16, np.bool_]),
)
@settings(max_examples=25)
def test_equals_numba(random_world, rule_of, seed, world, choices, how, dtype):
    volume = random_volume(random_world, seed, *world)
    if dtype == np.bool_:
        volume = (volume[0] > 0.5, *volume[1:])
    compare(TWIN, volume, rule_of(LabelSettings(**choices)), signs=how, dtype=dtype)


@pytest.mark.parametrize("shape", [(1, 26, 23), (6, 8, 9)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_any_cut_gives_the_same(random_world, monkeypatch, shape, dtype):
    """Boxes of a few patches, rows in parts: nothing changes, down to the last bit."""
    patch_shape = (5, 5) if shape[0] == 1 else (3, 5, 3)
    volume = random_volume(random_world, 1, shape, patch_shape)
    compare(TWIN, volume, VoteRule(), dtype=dtype)
    whole = TWIN.consensus(*volume[:3], window=volume[3], rule=VoteRule())
    monkeypatch.setattr(torch_kernels, "LAID_OUT_BYTES", 6_000)
    monkeypatch.setattr(torch_kernels, "SUMMED_BYTES", 60_000)
    boxes = list(torch_kernels._boxes(volume[1], volume[2], volume[3]))
    assert len(boxes) > 3
    cut = TWIN.consensus(*volume[:3], window=volume[3], rule=VoteRule())
    assert np.array_equal(whole.rows, cut.rows)
    compare(TWIN, volume, VoteRule(), dtype=dtype)


def test_sparse_foreground(random_world):
    affinities, visible, centres, patch = random_volume(random_world, 2, (1, 40, 50), (5, 3))
    few = np.random.default_rng(0).random(centres.shape) < 0.05
    compare(TWIN, (affinities, visible & few, centres & few, patch), VoteRule())


def test_rows_that_are_not_wanted(random_world):
    volume = random_volume(random_world, 3, (1, 14, 15), (5, 5))
    wanted = np.zeros((1, 14, 15), dtype=bool)
    wanted[:, 4:9, 3:11] = True
    compare(TWIN, volume, VoteRule(), wanted=wanted)


def test_nothing_to_do(random_world):
    affinities, visible, centres, patch = random_volume(random_world, 4, (1, 9, 9), (3, 3))
    compare(TWIN, (affinities, visible & False, centres & False, patch), VoteRule())
    compare(TWIN, (affinities, visible, centres & False, patch), VoteRule())


def test_rows_of_the_cpu_are_ranked_too(random_world):
    affinities, visible, centres, patch = random_volume(random_world, 5, (1, 12, 12), (3, 5))
    votes = consensus(affinities, visible, centres, window=patch, rule=VoteRule())
    ours = TWIN.rank(affinities, votes, centres, rule=VoteRule(), signs=False)
    theirs = rank(affinities, votes, centres, rule=VoteRule(), signs=False)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_rows_stay_where_they_are_until_read(random_world):
    affinities, visible, centres, patch = random_volume(random_world, 6, (1, 8, 8), (3, 3))
    votes = TWIN.consensus(affinities, visible, centres, window=patch, rule=VoteRule())
    assert isinstance(votes, Consensus)
    assert len(votes.device_rows) == np.count_nonzero(visible) + 1
    assert "rows" not in vars(votes)
    assert votes.rows is votes.rows


def test_inputs_that_may_not_be_written(random_world):
    affinities, visible, centres, patch = random_volume(random_world, 7, (1, 9, 9), (3, 3))
    found = []
    for _ in range(2):
        votes = TWIN.consensus(affinities, visible, centres, window=patch, rule=VoteRule())
        found.append(TWIN.rank(affinities, votes, centres, rule=VoteRule(), signs=False))
        for array in (affinities, visible, centres):
            array.flags.writeable = False
    assert np.array_equal(*found)


@pytest.mark.parametrize("value", [np.nan, 1.5, -0.5])
def test_values_that_are_no_probabilities(random_world, value):
    affinities, visible, centres, patch = random_volume(random_world, 8, (1, 8, 9), (3, 3))
    affinities[4][centres] = value
    with pytest.raises(DataError, match=r"must be probabilities between 0 and 1.*NaN or out"):
        TWIN.consensus(affinities, visible, centres, window=patch, rule=VoteRule())


def test_choice():
    assert choose_kernels("cpu").consensus is consensus
    if not torch.cuda.is_available():
        return
    assert choose_kernels("cuda").device.type == "cuda"


@pytest.mark.gpu
@pytest.mark.parametrize(("shape", "patch"), [((1, 90, 80), (9, 9)), ((12, 20, 22), (5, 5, 5))])
@pytest.mark.parametrize("signs", ["sum", "signs"])
def test_on_a_gpu(random_world, shape, patch, signs):
    compare(
        choose_kernels("cuda"),
        random_volume(random_world, 9, shape, patch),
        VoteRule(),
        signs=signs,
    )

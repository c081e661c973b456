"""All steps together: the truth comes back from perfect patches, sweeps equal single runs."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.errors import DataError
from instaseg.methods.patches import assemble, numpy_ref, patch_targets, rank_patches, sweep
from instaseg.methods.patches.config import LabelSettings

PATCH = (7, 7)


def same_partition(a, b):
    """Whether two label images are equal up to their numbers."""
    pairs = set(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    return (
        len(pairs) == len({p for p, _ in pairs}) == len({q for _, q in pairs}) and (0, 0) in pairs
    )


def blurred(labels, patch_shape, seed=0):
    """Return patches of `labels` with errors that stay on the right side of one half."""
    rng = np.random.default_rng(seed)
    truth = patch_targets(labels, patch_shape)
    error = rng.random(truth.shape, dtype=np.float32) * 0.3
    return np.where(truth > 0, 1 - error, error).astype(np.float32)


@pytest.mark.parametrize("partition", ["components", "mutex"])
@pytest.mark.parametrize("thin_out", ["none", "greedy"])
@pytest.mark.parametrize("cover", ["dense", "sparse"])
@pytest.mark.parametrize("vote", ["normalized_product", "product", "count"])
def test_truth_comes_back(touching_squares, partition, thin_out, cover, vote):
    chosen = LabelSettings(partition=partition, thin_out=thin_out, cover=cover, vote=vote)
    found = assemble(blurred(touching_squares, PATCH), patch_shape=PATCH, settings=chosen)
    # the third square reaches into the border, where patches are not complete, but not its centre
    assert same_partition(found, touching_squares)


def test_the_example_of_the_readme():
    text = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    found = {}
    exec(text.partition("```python\n")[2].partition("```")[0], found)
    assert found["score"] == 1


def test_truth_comes_back_in_a_volume():
    labels = np.zeros((9, 11, 12), dtype=np.int32)
    labels[2:6, 3:6, 2:10] = 1
    labels[2:6, 6:9, 2:10] = 2
    labels[6:8, 3:9, 3:9] = 3
    found = assemble(blurred(labels, (3, 3, 3)), patch_shape=(3, 3, 3))
    assert same_partition(found, labels)


def crossing_bars():
    """Return two bars (2, 19, 19) that cross, and where they do."""
    bars = np.zeros((2, 19, 19), dtype=bool)
    bars[0, 8:11, 3:16] = True
    bars[1, 3:16, 8:11] = True
    return bars, bars.all(axis=0)


@pytest.mark.parametrize(("output", "channels"), [("one_per_channel", 2), ("packed", 2)])
def test_crossing_instances(output, channels):
    bars, overlap = crossing_bars()
    patch_shape = (11, 11)
    patches = patch_targets(bars, patch_shape).astype(np.float32)
    # patches in the outer parts see over the crossing: repulsion between the bars, attraction along
    patches = np.pad(patches, [(0, 0), (5, 5), (5, 5)])
    foreground = np.pad(bars.any(axis=0), 5)
    chosen = LabelSettings(output=output, partition="mutex")
    found = assemble(
        patches, foreground, patch_shape=patch_shape, settings=chosen, overlap=np.pad(overlap, 5)
    )
    assert found.shape == (channels, 29, 29)
    shown = {tuple(map(tuple, np.argwhere(c[5:-5, 5:-5]))) for c in found}
    assert shown == {tuple(map(tuple, np.argwhere(bar))) for bar in bars}


GRID = st.fixed_dictionaries(
    {
        "patch_threshold": st.sampled_from([0.4, 0.5, 0.7]),
        "background": st.sampled_from(["inverse", "half", "less_than"]),
        "vote": st.sampled_from(["normalized_product", "product"]),
        "fc_threshold": st.sampled_from([0.5, 0.6]),
        "score_threshold": st.sampled_from([None, 0.0]),
        "cover": st.sampled_from(["dense", "sparse"]),
        "thin_out": st.sampled_from(["none", "greedy"]),
        "partition": st.sampled_from(["components", "mutex"]),
        "single_patches": st.sampled_from(["keep", "drop"]),
        "output": st.sampled_from(["single", "one_per_channel", "packed"]),
    }
)


@given(
    seed=st.integers(0, 999),
    world=st.sampled_from([((1, 9, 9), (3, 3)), ((5, 6, 6), (3, 3, 3))]),
    choices=GRID,
)
@settings(max_examples=20)
def test_equals_plain_version(random_world, seed, world, choices):
    shape, patch_shape = world
    affinities, foreground, overlap, _ = random_world(seed, shape, patch_shape)
    chosen = LabelSettings(**choices)
    found = (
        assemble(affinities, foreground, patch_shape=patch_shape, settings=chosen, overlap=overlap)
        if len(patch_shape) == 3
        else assemble(
            affinities[:, 0],
            foreground[0],
            patch_shape=patch_shape,
            settings=chosen,
            overlap=overlap[0],
        )
    )
    full = patch_shape if len(patch_shape) == 3 else (1, *patch_shape)
    expected = numpy_ref.assemble(affinities, foreground, full, chosen, overlap)
    assert np.array_equal(found, expected if len(patch_shape) == 3 else expected[..., 0, :, :])


def test_a_sweep_equals_single_runs(random_world):
    affinities, _, _, _ = random_world(7, (1, 20, 21), (5, 5))
    probability = np.random.default_rng(0).random((20, 21))
    sets = [
        LabelSettings(fg_threshold=f, patch_threshold=p, partition=m, thin_out=t, output=o)
        for p, f, m, t, o in itertools.product(
            (0.5, 0.7),
            (0.1, 0.3),
            ("components", "mutex"),
            ("none", "greedy"),
            ("single", "packed"),
        )
    ]
    together = list(sweep(affinities[:, 0], probability, sets, patch_shape=(5, 5)))
    assert len(together) == len(sets)
    for one, labels in zip(sets, together, strict=True):
        alone = assemble(affinities[:, 0], probability, patch_shape=(5, 5), settings=one)
        assert np.array_equal(alone, labels)


def test_one_consensus_serves_all_that_share_it(random_world, monkeypatch):
    from instaseg.methods.patches import assembly

    calls = []
    original = assembly.vote
    monkeypatch.setattr(assembly, "vote", lambda *a, **k: calls.append(1) or original(*a, **k))
    affinities, foreground, _, _ = random_world(7, (1, 12, 12), (3, 3))
    sets = [
        LabelSettings(patch_threshold=t, partition=p)
        for p in ("components", "mutex")
        for t in (0.5, 0.6)
    ]
    list(sweep(affinities[:, 0], foreground[0], sets, patch_shape=(3, 3)))
    assert len(calls) == 2


IN_THREADS = """
import hashlib
import numba
import numpy as np
from instaseg.methods.patches import assemble, rank_patches

rng = np.random.default_rng(11)
affinities, foreground = rng.random((25, 60, 70), np.float32), rng.random((60, 70)) > 0.4
overlap = foreground & (rng.random((60, 70)) > 0.9)
scores = rank_patches(affinities, foreground, patch_shape=(5, 5), overlap=overlap)
labels = assemble(affinities, foreground, patch_shape=(5, 5), overlap=overlap)
made = hashlib.sha256(scores.tobytes() + labels.tobytes()).hexdigest()
print(numba.get_num_threads(), labels.max() > 1, made)
"""


def test_same_for_any_number_of_threads():
    found = {}
    for threads in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", IN_THREADS],
            env=os.environ | {"NUMBA_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        )
        used, several, found[threads] = done.stdout.split()
        assert (used, several) == (threads, "True")
    assert found["1"] == found["2"]


def test_bounding_box_equals_whole(touching_squares):
    patches = blurred(np.pad(touching_squares, 12), PATCH)
    found = [
        assemble(patches, patch_shape=PATCH, settings=LabelSettings(region=region))
        for region in ("whole", "bounding_box")
    ]
    assert np.array_equal(*found)
    assert found[0].shape == patches.shape[1:]


def test_swapped_axes(touching_squares):
    patches = blurred(touching_squares, PATCH)
    turned = patches.reshape(7, 7, 14, 17).transpose(1, 0, 3, 2).reshape(49, 17, 14)
    plain = assemble(patches, patch_shape=PATCH)
    assert same_partition(assemble(turned, patch_shape=PATCH).T, plain)


def test_small_components_are_ignored(touching_squares):
    patches = blurred(touching_squares, PATCH)
    chosen = LabelSettings(ignore_small_components=20)
    found = assemble(patches, patch_shape=PATCH, settings=chosen)
    assert found.max() == 2
    assert not found[10:].any()


def test_covering_the_skeleton_mixes_no_instances(touching_squares):
    patches = blurred(touching_squares, PATCH)
    chosen = LabelSettings(cover_mask="skeleton", cover="sparse")
    found = assemble(patches, patch_shape=PATCH, settings=chosen)
    pairs = set(zip(found[found > 0].tolist(), touching_squares[found > 0].tolist(), strict=True))
    assert len(pairs) == 3
    assert {truth for _, truth in pairs} == {1, 2, 3}


@pytest.mark.parametrize(
    ("output", "shape"), [("single", (9, 9)), ("packed", (1, 9, 9)), ("one_per_channel", (1, 9, 9))]
)
def test_nothing_there(output, shape):
    found = assemble(
        np.zeros((9, 9, 9), np.float32), patch_shape=(3, 3), settings=LabelSettings(output=output)
    )
    assert found.shape == shape
    assert not found.any()


def test_an_image_smaller_than_the_patch():
    assert not assemble(np.ones((25, 3, 4), np.float32), patch_shape=(5, 5)).any()
    assert (
        rank_patches(np.ones((25, 3, 4), np.float32), np.ones((3, 4), bool), (5, 5)) == -1
    ).all()


A = np.full((9, 6, 6), 0.7, dtype=np.float32)
F = np.ones((6, 6), dtype=bool)


@pytest.mark.parametrize(
    ("affinities", "foreground", "patch_shape", "message"),
    [
        pytest.param(A, F, (3, 4), r"odd sides in voxels; got \(3, 4\)", id="even side"),
        pytest.param(
            A, F, (3, 5), r"must have 15 channels for patches of \(3, 5\); got 9", id="channels"
        ),
        pytest.param(
            A, F[:5], (3, 3), r"spatial shape \(6, 6\); got \(5, 6\)", id="foreground's shape"
        ),
        pytest.param(
            A[0], F, (3, 3), r"\(K, y, x\) or \(K, z, y, x\); got shape \(6, 6\)", id="no channels"
        ),
        pytest.param(A, F, (3, 3, 3), "is 3-D but affinities are 2-D", id="3-D patch"),
        pytest.param(
            A.astype(int), F, (3, 3), "float32, float16, uint8 .* or bool; got int64", id="integers"
        ),
        pytest.param(
            A * 2, F, (3, 3), "must be probabilities between 0 and 1", id="not probabilities"
        ),
        pytest.param(A, F * np.nan, (3, 3), "foreground must be finite", id="NaN foreground"),
    ],
)
def test_bad_input(affinities, foreground, patch_shape, message):
    with pytest.raises(DataError, match=message):
        assemble(affinities, foreground, patch_shape=patch_shape)
    with pytest.raises(DataError, match=message):
        rank_patches(affinities, foreground, patch_shape)

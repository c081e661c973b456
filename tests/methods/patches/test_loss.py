"""The loss of patches against plain numpy, and by hand on one row of pixels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.methods.patches import patch_targets as numpy_targets
from instaseg.methods.patches.loss import (
    count_loss,
    draw_sites,
    foreground_loss,
    patch_loss,
    patch_targets,
    rows_at,
)

PATCHES = st.sampled_from([(3, 3), (1, 5), (5, 3), (3, 3, 3), (1, 3, 5)])


def cross_entropy(logits, target):
    """Return the binary cross entropy, from its definition."""
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


def random_layers(patch_shape, seed, *, images=2):
    """Return instances ``(B, n, ...)`` that overlap, and the same packed into layers."""
    rng = np.random.default_rng(seed)
    inner = rng.integers(2, 6, len(patch_shape))
    outer = tuple(int(n) + side - 1 for n, side in zip(inner, patch_shape, strict=True))
    layers = rng.integers(0, 3, (images, 2, *outer)).astype(np.int32)
    layers[:, 1][rng.random((images, *outer)) < 0.5] = 0
    layers[:, 1] += 2 * (layers[:, 1] > 0)  # ids are unique over the layers
    instances = np.stack([(layers == i).any(axis=1) for i in (1, 2, 3, 4)], axis=1)
    return instances, layers


def inside(array, patch_shape):
    """Return the last axes without half a patch on each side."""
    index = tuple(slice(side // 2, -(side // 2) or None) for side in patch_shape)
    return array[(..., *index)]


def everywhere(labels, patch_shape):
    """Return the positions of all voxels inside the context."""
    inner = inside(labels[:, 0], patch_shape)
    return torch.arange(math.prod(inner.shape))


def test_targets_of_one_row_by_hand():
    """Pixels ``1 1 2 2 0`` with patches of three; the first and the last are context::

    pixel (label)   left  itself  right
    1     (1)         1      1      0
    2     (2)         0      1      1
    3     (2)         1      1      0
    """
    labels = torch.tensor([[[[1, 1, 2, 2, 0]]]])
    found = patch_targets(labels, (1, 3), torch.arange(3))
    assert found.int().tolist() == [[1, 1, 0], [0, 1, 1], [1, 1, 0]]


def test_targets_of_background_are_nothing():
    labels = torch.tensor([[[[0, 0, 0, 7]]]])
    assert not patch_targets(labels, (1, 3), torch.arange(2)).any()


def test_targets_run_through_overlaps_by_hand():
    """Two layers; pixel 2 has two instances, so no patch, but is in those of both neighbours::

    layer 1   1 1 1 0 0        patch of pixel 1 (of 1): 1 1 1
    layer 2   0 0 2 2 0        patch of pixel 3 (of 2): 1 1 0
    """
    labels = torch.tensor([[[[1, 1, 1, 0, 0]], [[0, 0, 2, 2, 0]]]])
    found = patch_targets(labels, (1, 3), torch.arange(3))
    assert found.int().tolist() == [[1, 1, 1], [0, 0, 0], [1, 1, 0]]


@given(PATCHES, st.integers(0, 2**16))
@settings(max_examples=40)
def test_targets_are_those_of_numpy(patch_shape, seed):
    instances, layers = random_layers(patch_shape, seed)
    whole = np.stack([numpy_targets(image, patch_shape) for image in instances])
    expected = np.moveaxis(inside(whole, patch_shape), 1, -1).reshape(-1, math.prod(patch_shape))
    sites = everywhere(layers, patch_shape)[:: 1 + seed % 2]
    packed = patch_targets(torch.from_numpy(layers), patch_shape, sites)
    np.testing.assert_array_equal(packed.numpy(), expected[sites])
    numbers = np.arange(1, 5).reshape(1, -1, *[1] * len(patch_shape))
    single = torch.from_numpy((instances * numbers).astype(np.int32))
    np.testing.assert_array_equal(
        patch_targets(single, patch_shape, sites).numpy(), expected[sites]
    )


def test_loss_of_one_row_by_hand():
    """Logits are 0 (probability 1/2) but for one: log 2 on five of six, log(1 + e^-2) there."""
    labels = torch.tensor([[[[1, 1, 2, 2]]]])
    logits = torch.zeros(2, 3)
    logits[0, 1] = 2.0
    loss = patch_loss(logits, labels, patch_shape=(1, 3), sites=torch.arange(2))
    assert float(loss) == pytest.approx((5 * math.log(2) + math.log1p(math.exp(-2))) / 6)
    # The second patch counts a quarter of the first.
    weighted = patch_loss(
        logits,
        labels,
        patch_shape=(1, 3),
        sites=torch.arange(2),
        weight=torch.tensor([[[1.0, 0.25]]]),
    )
    first = (2 * math.log(2) + math.log1p(math.exp(-2))) / 3
    assert float(weighted) == pytest.approx((first + 0.25 * math.log(2)) / 1.25)


@given(PATCHES, st.integers(0, 2**16))
@settings(max_examples=30)
def test_loss_is_the_mean_cross_entropy(patch_shape, seed):
    instances, layers = random_layers(patch_shape, seed)
    whole = np.stack([numpy_targets(image, patch_shape) for image in instances])
    targets = np.moveaxis(inside(whole, patch_shape), 1, -1).reshape(-1, math.prod(patch_shape))
    rng = np.random.default_rng(seed)
    sites = everywhere(layers, patch_shape)
    sites = sites[torch.from_numpy(rng.random(len(sites)) < 0.7)]
    logits = rng.normal(0, 2, (len(sites), targets.shape[1])).astype(np.float32)
    expected = cross_entropy(logits, targets[sites]).mean() if len(sites) else 0.0
    found = patch_loss(
        torch.from_numpy(logits), torch.from_numpy(layers), patch_shape=patch_shape, sites=sites
    )
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_two_dimensions_are_three_with_one_slice():
    _, layers = random_layers((3, 5), 0)
    sites = everywhere(layers, (3, 5))
    flat = patch_targets(torch.from_numpy(layers), (3, 5), sites)
    deep = patch_targets(torch.from_numpy(layers[:, :, None]), (1, 3, 5), sites)
    assert torch.equal(flat, deep)


def test_without_sites_the_loss_is_zero_and_so_is_its_gradient():
    logits = torch.randn(0, 3, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    loss = patch_loss(logits, torch.ones(1, 1, 1, 4).int(), patch_shape=(1, 3), sites=none)
    loss.backward()
    assert float(loss.detach()) == 0


def test_sixteen_bit_logits_are_summed_in_32():
    """Many equal losses of log 2 in bfloat16 would stop growing at 256."""
    logits = torch.zeros(3600, 9, dtype=torch.bfloat16)
    labels = torch.ones(1, 1, 62, 62).int()
    loss = patch_loss(logits, labels, patch_shape=(3, 3), sites=torch.arange(3600))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(math.log(2), rel=1e-5)


def test_foreground_loss_by_hand():
    """Of three pixels one does not count: (log 2 + log(1 + e^-3)) / 2."""
    logits = torch.tensor([[[[0.0, 3.0, 50.0]]]])
    truth = torch.tensor([[[False, True, False]]])
    weight = torch.tensor([[[1.0, 1.0, 0.0]]])
    expected = (math.log(2) + math.log1p(math.exp(-3))) / 2
    assert float(foreground_loss(logits, truth, weight)) == pytest.approx(expected)
    assert float(foreground_loss(logits, truth, 0 * weight)) == 0


def test_count_loss_by_hand():
    """Logits 0, 0, log 2 are probabilities 1/4, 1/4, 1/2; three instances count as two."""
    logits = torch.tensor([0.0, 0.0, math.log(2)]).reshape(1, 3, 1, 1).expand(1, 3, 1, 3)
    count = torch.tensor([[[0, 3, 1]]])
    weight = torch.tensor([[[1.0, 1.0, 0.5]]])
    expected = (math.log(4) + math.log(2) + 0.5 * math.log(4)) / 2.5
    assert float(count_loss(logits, count, weight)) == pytest.approx(expected)


@given(st.integers(0, 2**16), st.integers(1, 12))
@settings(max_examples=30)
def test_sites_are_chosen_voxels_of_each_crop(seed, most):
    random = torch.Generator().manual_seed(seed)
    chosen = torch.rand(2, 3, 4, generator=random) < 0.5
    every = draw_sites(chosen, None, seed)
    assert torch.equal(every, chosen.flatten().nonzero()[:, 0])
    drawn = draw_sites(chosen, most, seed)
    assert torch.equal(drawn, draw_sites(chosen, most, seed))
    assert set(drawn.tolist()) <= set(every.tolist())
    for element in range(2):
        own = (drawn // 12 == element).sum()
        assert own == min(most, chosen[element].sum())


def test_another_seed_draws_other_sites():
    chosen = torch.ones(1, 10, 10, dtype=torch.bool)
    first, second = (set(draw_sites(chosen, 20, seed).tolist()) for seed in (0, 1))
    assert len(first) == 20
    assert first != second


def test_rows_of_an_output():
    logits = torch.arange(2 * 3 * 4).reshape(2, 3, 2, 2)
    assert rows_at(logits, torch.tensor([1, 6])).tolist() == [[1, 5, 9], [14, 18, 22]]

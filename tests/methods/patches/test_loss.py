"""The loss of patches against plain numpy, and by hand on one row of pixels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.methods.patches import patch_targets as numpy_targets
from instaseg.methods.patches.loss import (
    foreground_loss,
    inner_labels,
    patch_loss,
    patch_targets,
)

PATCHES = st.sampled_from([(3, 3), (1, 5), (5, 3), (3, 3, 3), (1, 3, 5)])


def cross_entropy(logits, target):
    """Return the binary cross entropy, from its definition."""
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


def random_batch(patch_shape, seed, *, images=2, instances=3):
    """Return labels with context, logits and a mask of two crops."""
    rng = np.random.default_rng(seed)
    inner = tuple(rng.integers(2, 6, len(patch_shape)))
    outer = tuple(n + side - 1 for n, side in zip(inner, patch_shape, strict=True))
    labels = rng.integers(0, instances, (images, *outer)).astype(np.int32)
    logits = rng.normal(0, 2, (images, math.prod(patch_shape), *inner)).astype(np.float32)
    return labels, logits, rng.random((images, *inner)) < 0.7


def inside(array, patch_shape):
    """Return the last axes without half a patch on each side."""
    index = tuple(slice(side // 2, -(side // 2) or None) for side in patch_shape)
    return array[(..., *index)]


def test_targets_of_one_row_by_hand():
    """Pixels ``1 1 2 2 0`` with patches of three; the first and the last are context::

    pixel (label)   left  itself  right
    1     (1)         1      1      0
    2     (2)         0      1      1
    3     (2)         1      1      0
    """
    labels = torch.tensor([[[1, 1, 2, 2, 0]]])
    found = patch_targets(labels, (1, 3), torch.ones(1, 1, 3, dtype=torch.bool))
    assert found.int().tolist() == [[1, 1, 0], [0, 1, 1], [1, 1, 0]]


def test_targets_of_background_are_nothing():
    labels = torch.tensor([[[0, 0, 0, 7]]])
    found = patch_targets(labels, (1, 3), torch.ones(1, 1, 2, dtype=torch.bool))
    assert not found.any()


def test_loss_of_one_row_by_hand():
    """Logits are 0 (probability 1/2) but for one: log 2 on five of six, log(1 + e^-2) there."""
    labels = torch.tensor([[[1, 1, 2, 2]]])
    logits = torch.zeros(1, 3, 1, 2)
    logits[0, 1, 0, 0] = 2.0
    loss = patch_loss(
        logits, labels, patch_shape=(1, 3), chosen=torch.ones(1, 1, 2, dtype=torch.bool)
    )
    assert float(loss) == pytest.approx((5 * math.log(2) + math.log1p(math.exp(-2))) / 6)


@given(PATCHES, st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_loss_is_the_mean_cross_entropy_of_the_foreground(patch_shape, seed):
    labels, logits, mask = random_batch(patch_shape, seed)
    targets = np.stack([numpy_targets(image, patch_shape) for image in labels])
    targets = inside(targets, patch_shape)
    chosen = mask & (inside(labels, patch_shape) > 0)
    each = np.moveaxis(cross_entropy(logits, targets), 1, -1)[chosen]
    found = patch_loss(
        torch.from_numpy(logits),
        torch.from_numpy(labels),
        patch_shape=patch_shape,
        chosen=torch.from_numpy(chosen),
    )
    assert float(found) == pytest.approx(each.mean() if each.size else 0.0, rel=1e-5)


@given(st.integers(0, 2**16))
@settings(max_examples=15, deadline=None)
def test_two_dimensions_are_three_with_one_slice(seed):
    labels, logits, mask = (torch.from_numpy(a) for a in random_batch((3, 5), seed))
    flat = patch_loss(logits, labels, patch_shape=(3, 5), chosen=mask)
    deep = patch_loss(
        logits[:, :, None], labels[:, None], patch_shape=(1, 3, 5), chosen=mask[:, None]
    )
    assert float(flat) == pytest.approx(float(deep), rel=1e-6)


def test_where_nothing_is_chosen_the_loss_is_zero_and_so_is_its_gradient():
    logits = torch.randn(1, 3, 1, 2, requires_grad=True)
    chosen = torch.zeros(1, 1, 2, dtype=torch.bool)
    loss = patch_loss(logits, torch.ones(1, 1, 4).int(), patch_shape=(1, 3), chosen=chosen)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not logits.grad.any()


def test_pixels_that_are_not_chosen_have_no_gradient():
    labels, logits, mask = (torch.from_numpy(a) for a in random_batch((3, 3), 1))
    logits.requires_grad_()
    patch_loss(logits, labels, patch_shape=(3, 3), chosen=mask).backward()
    moved = logits.grad.abs().sum(dim=1) > 0
    assert torch.equal(moved, mask)


def test_sixteen_bit_logits_are_summed_in_32():
    """Many equal losses of log 2 in bfloat16 would stop growing at 256."""
    logits = torch.zeros(1, 9, 60, 60, dtype=torch.bfloat16)
    labels = torch.ones(1, 62, 62).int()
    chosen = torch.ones(1, 60, 60, dtype=torch.bool)
    loss = patch_loss(logits, labels, patch_shape=(3, 3), chosen=chosen)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(math.log(2), rel=1e-5)


def test_foreground_loss_by_hand():
    """Of three pixels one is unknown: (log 2 + log(1 + e^-3)) / 2."""
    logits = torch.tensor([[[[0.0, 3.0, 50.0]]]])
    truth = torch.tensor([[[False, True, False]]])
    known = torch.tensor([[[True, True, False]]])
    expected = (math.log(2) + math.log1p(math.exp(-3))) / 2
    assert float(foreground_loss(logits, truth, known)) == pytest.approx(expected)
    nothing = torch.zeros_like(known)
    assert float(foreground_loss(logits, truth, nothing)) == 0


def test_inner_labels():
    labels = torch.arange(5 * 6).reshape(1, 5, 6)
    assert inner_labels(labels, (1, 2)).tolist() == [[[8, 9], [14, 15], [20, 21]]]
    assert torch.equal(inner_labels(labels, (0, 0)), labels)

"""The loss of channels."""

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from instaseg.methods.channels.config import ChannelsSettings
from instaseg.methods.channels.heads import head_of
from instaseg.methods.channels.loss import balance, channel_loss, total_loss, value_weights
from instaseg.methods.channels.registry import channels_of
from instaseg.models.network import activate


def one(name, **tables):
    return channels_of(ChannelsSettings.model_validate({"channels": [name], **tables}), 2)[0]


def mean_loss(channel, logits, target):
    return channel_loss(channel, logits, target, torch.ones_like(target[:, :1])).item()


@pytest.mark.parametrize("name", ["foreground", "distance", "flow", "signed_distance", "centre"])
@pytest.mark.parametrize("loss", ["default", "mse", "l1"])
def test_what_is_compared_is_what_is_predicted(name, loss):
    channel = one(name, losses=[loss])
    logits = torch.linspace(-2, 2, 12 * channel.channels).reshape(1, channel.channels, 3, 4)
    predicted = activate(head_of(channel), logits)
    target = torch.rand(logits.shape, generator=torch.Generator().manual_seed(0))
    if channel.loss == "bce":
        expected = binary_cross_entropy(predicted, target)
    elif channel.loss == "l1":
        expected = channel.factor * (predicted - target).abs().mean()
    else:
        expected = channel.factor**2 * (predicted - target).square().mean()
    assert mean_loss(channel, logits, target) == pytest.approx(expected.item(), rel=1e-5)


def test_distances_by_cross_entropy_are_probabilities():
    channel = one("distance", losses=["bce"])
    target = torch.tensor([[[[0.0, 0.3, 1.0]]]])
    logits = torch.tensor([[[[-1.0, 0.5, 2.0]]]])
    expected = binary_cross_entropy(activate(head_of(channel), logits), target)
    assert mean_loss(channel, logits, target) == pytest.approx(expected.item(), rel=1e-6)


def test_flows_are_compared_five_times_as_long():
    channel = one("flow")
    logits, target = torch.zeros(1, 2, 1, 1), torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    assert mean_loss(channel, logits, target) == pytest.approx(25 / 2)


def test_perfect_predictions_cost_nothing():
    for name in ("distance", "rays", "flow", "ridge"):
        channel = one(name)
        target = torch.rand(2, channel.channels, 3, 3)
        assert mean_loss(channel, target.clone(), target) == 0


def test_where_nothing_counts_the_loss_is_zero_and_has_a_gradient():
    logits = torch.zeros(1, 1, 2, 2, requires_grad=True)
    found = channel_loss(one("distance"), logits, torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    found.backward()
    assert found.item() == 0
    assert not logits.grad.any()


def weights_of(channel, target, *, known=None, border=None, **tables):
    known = torch.ones_like(target[:, 0]) if known is None else known
    return value_weights(
        channel,
        target,
        known,
        foreground=target[:, 0] > 0,
        settings=ChannelsSettings.model_validate({"channels": [channel.name], **tables}),
        border=border,
    )


def test_distances_count_in_the_foreground():
    target = torch.tensor([[[[0.0, 0.5, 1.0]]]])
    assert weights_of(one("distance"), target).tolist() == [[[[0, 1, 1]]]]
    everywhere = one("distance", distance={"learnt": "everywhere"})
    assert weights_of(everywhere, target).tolist() == [[[[1, 1, 1]]]]


def test_unknown_background_does_not_count():
    target = torch.tensor([[[[0.0, 0.0, 1.0]]]])
    known = torch.tensor([[[0.0, 1.0, 1.0]]])
    assert weights_of(one("foreground"), target, known=known).tolist() == [[[[0, 1, 1]]]]


@pytest.mark.parametrize(
    ("share", "factor"), [(0.01, 19), (0.05, 19), (0.1, 9), (0.5, 1), (0.8, 4), (0.99, 19)]
)
def test_golden_class_balance(share, factor):
    target = torch.zeros(1, 1, 10, 10)
    target.view(-1)[: round(100 * share)] = 1
    found = balance(target, torch.ones_like(target), 19.0)
    rarer = found[target == float(share <= 0.5)]
    other = found[target != float(share <= 0.5)]
    assert rarer.unique().item() == pytest.approx(factor, rel=1e-4)
    assert other.unique().item() == 1


def test_balance_is_one_where_a_side_is_missing_and_has_a_limit():
    assert balance(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2), 19.0).unique().item() == 1
    target = torch.zeros(1, 1, 10, 10)
    target[0, 0, 0, 0] = 1
    assert balance(target, torch.ones_like(target), 3.0).max().item() == 3


def test_balance_looks_at_each_component_and_at_known_voxels():
    target = torch.zeros(1, 2, 1, 4)
    target[0, 0, 0, 0] = 1
    target[0, 1, 0, :2] = 1
    found = balance(target, torch.ones(1, 1, 1, 4), 19.0)
    assert found.tolist() == [[[[3, 1, 1, 1]], [[1, 1, 1, 1]]]]
    known = torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]])
    assert balance(target, known, 19.0)[0, 0, 0, 0].item() == 1


def test_balance_is_for_binary_channels():
    target = torch.tensor([[[[0.0, 0.0, 0.0, 1.0]]]])
    balanced = weights_of(one("foreground"), target, class_balance="batch")
    assert balanced.tolist() == [[[[1, 1, 1, 3]]]]
    assert weights_of(one("ridge"), target, class_balance="batch").tolist() == [[[[1, 1, 1, 1]]]]


def test_border_weights_are_added():
    target = torch.tensor([[[[0.0, 0.0, 1.0]]]])
    border = torch.tensor([[[[4.0, 0.0, 0.0]]]])
    assert weights_of(one("contour"), target, border=border).tolist() == [[[[5, 1, 1]]]]


def test_weights_of_channels():
    parts = {"contour": torch.tensor(3.0), "foreground": torch.tensor(2.0)}
    plain = ChannelsSettings(channels=("foreground", "contour"))
    assert total_loss(parts, plain).item() == 5
    weighted = plain.model_copy(update={"weights": (1.0, 0.5)})
    assert total_loss(parts, weighted).item() == 3.5


def test_half_precision_is_compared_as_float32():
    logits = torch.full((1, 1, 4, 4), 3.0, dtype=torch.bfloat16)
    target = torch.from_numpy(np.ones((1, 1, 4, 4), np.uint8))
    assert mean_loss(one("foreground"), logits, target) == pytest.approx(np.log1p(np.exp(-3)))

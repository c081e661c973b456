"""Means of losses, by hand."""

import math

import pytest
import torch

from instaseg.methods.losses import class_entropy, weighted_mean


def test_weighted_mean_by_hand():
    each = torch.tensor([[4.0, 8.0, 100.0]])
    assert weighted_mean(each, torch.tensor([[1.5, 0.5, 0.0]])).item() == (6 + 4) / 2


def test_mean_without_any_weight_is_zero_and_so_is_its_gradient():
    each = torch.tensor([3.0, 5.0], requires_grad=True)
    mean = weighted_mean(each, torch.zeros(2))
    mean.backward()
    assert mean.item() == 0
    assert each.grad.tolist() == [0, 0]


def test_entropy_of_three_classes_by_hand():
    probability = torch.tensor([[[0.7, 0.2], [0.2, 0.3], [0.1, 0.5]]])  # (1, 3, 2)
    classes = torch.tensor([[0, 2]])
    found = class_entropy(probability.log(), classes, torch.ones(1, 2), None).item()
    assert found == pytest.approx(-(math.log(0.7) + math.log(0.5)) / 2)
    found = class_entropy(probability.log(), classes, torch.ones(1, 2), (1, 1, 0)).item()
    assert found == pytest.approx(-math.log(0.7))


def test_entropy_of_nothing_is_zero():
    found = class_entropy(torch.zeros(1, 1, 4), torch.full((1, 4), -1), torch.zeros(1, 4), None)
    assert found.item() == 0

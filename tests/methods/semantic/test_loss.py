import math

import pytest
import torch

from instaseg.methods.losses import class_entropy
from instaseg.methods.semantic.loss import (
    class_probabilities,
    crop_error,
    dice_loss,
    voxel_weight,
)


def logits_of(probability):
    return torch.logit(torch.tensor(probability))


def test_weights_leave_out_what_has_no_class():
    classes = torch.tensor([[0, 1, -1, 0, 1, -1]])
    mask = torch.tensor([[1, 1, 1, 0, 0, 0]], dtype=torch.bool)
    weight = voxel_weight(classes, mask, 0.25)
    assert weight.tolist() == [[1, 1, 0, 0.25, 1, 0]]


def test_binary_entropy_by_hand():
    logits = logits_of([[[[0.8, 0.6, 0.1]]]])
    classes = torch.tensor([[[1, 0, -1]]])
    weight = voxel_weight(classes, torch.ones(1, 1, 3), 0.0)
    expected = -(math.log(0.8) + math.log(0.4)) / 2
    assert class_entropy(logits, classes, weight, None).item() == pytest.approx(expected)
    weighted = -(3 * math.log(0.8) + math.log(0.4)) / 4
    found = class_entropy(logits, classes, weight, (1, 3)).item()
    assert found == pytest.approx(weighted, rel=1e-5)


def test_dice_by_hand():
    logits = logits_of([[[0.8, 0.6, 0.1]]])
    classes, weight = torch.tensor([[1, 0, 0]]), torch.tensor([[1.0, 1.0, 0.0]])
    # shared 0.8; both sides 0.8 + 0.6 + 1
    assert dice_loss(logits, classes, weight).item() == pytest.approx(1 - 1.6 / 2.4, rel=1e-4)


def test_dice_of_several_classes_is_the_mean_without_background():
    probability = torch.tensor([[[0.5, 0.0], [0.5, 0.0], [0.0, 1.0]]])
    classes = torch.tensor([[1, 2]])
    found = dice_loss((probability + 1e-12).log(), classes, torch.ones(1, 2)).item()
    assert found == pytest.approx((1 - 1 / 1.5) / 2, rel=1e-4)


def test_a_batch_without_a_class_has_a_dice_loss():
    found = dice_loss(torch.full((1, 1, 5), -50.0), torch.zeros(1, 5).long(), torch.ones(1, 5))
    assert found.item() == pytest.approx(0, abs=1e-3)


def test_losses_can_be_followed_downhill():
    logits = torch.zeros(1, 3, 4, requires_grad=True)
    classes = torch.tensor([[0, 1, 2, -1]])
    weight = voxel_weight(classes, torch.ones(1, 4), 0.0)
    (class_entropy(logits, classes, weight, None) + dice_loss(logits, classes, weight)).backward()
    assert logits.grad[0, :, 3].abs().sum() == 0
    assert (logits.grad[0, [0, 1, 2], [0, 1, 2]] < 0).all()


def test_error_of_crops_is_one_minus_their_mean_iou():
    found = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    true = torch.tensor([[0, 1, 1, 0], [0, 0, 0, 0], [1, 1, -1, -1]])
    logits = (found.float() * 2 - 1)[:, None]
    weight = voxel_weight(true, torch.ones(3, 4), 0.0)
    # IoU 1/3; nothing on either side, left out; 1 where it is known
    assert crop_error(logits, true, weight).item() == pytest.approx((2 / 3 + 0) / 2)
    empty = torch.zeros(1, 4).long()
    assert crop_error(torch.full((1, 1, 4), -1.0), empty, torch.ones(1, 4)).item() == 0


def test_probabilities_of_two_classes():
    assert class_probabilities(torch.zeros(1, 1, 2)).tolist() == [[[0.5, 0.5], [0.5, 0.5]]]

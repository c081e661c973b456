import math

import pytest
import torch

from instaseg.methods.deep_watershed.loss import (
    area_weight,
    class_depth_loss,
    depth_loss,
    dice_loss,
    direction_loss,
    foreground_loss,
    published_depth_loss,
    published_direction_loss,
    published_foreground_loss,
    rim_weight,
)


def line(*values):
    """Return values as an image (1, 1, x)."""
    return torch.tensor([[values]])


def vectors(*pairs):
    """Return vectors (dy, dx) as an image (1, 2, 1, x)."""
    return torch.tensor(pairs).T.reshape(1, 2, 1, -1).float()


ONES = line(1.0, 1.0)


def test_foreground_of_one_channel_is_cross_entropy():
    logits = line(0.0, 0.0)[:, None]
    assert foreground_loss(logits, line(0, 2), ONES).item() == pytest.approx(math.log(2))
    # only where labels are complete
    logits = line(0.0, 50.0)[:, None]
    assert foreground_loss(logits, line(0, 0), line(1.0, 0.0)).item() == pytest.approx(math.log(2))


def test_foreground_of_three_channels_tells_walls_from_cells():
    sure = torch.full((1, 3, 1, 3), -30.0)
    for place, kind in enumerate((0, 2, 1)):
        sure[0, kind, 0, place] = 30
    weight = line(1.0, 1.0, 1.0)
    assert foreground_loss(sure, line(0, 2, 1), weight).item() == pytest.approx(0)
    assert foreground_loss(sure, line(0, 1, 1), weight).item() > 10
    assert published_foreground_loss(sure, line(0, 2, 1), weight).item() == pytest.approx(
        0, abs=1e-5
    )


def test_dice():
    # shared 0.5 of 0.5 + 1: 1 - 2 * 0.5 / (0.5 + 0.5 + 1)
    found = dice_loss(line(0.5, 0.5), line(1, 0), ONES)
    assert found.item() == pytest.approx(1 - 1.001 / 2.001)


def test_directions_are_means_over_voxels_that_have_one():
    target = vectors((1, 0), (0, 0), (0, 1))
    predicted = vectors((1, 0), (0, 1), (0, -1))
    weight = line(1.0, 1.0, 1.0)
    assert direction_loss(predicted, target, weight).item() == pytest.approx((0 + 2) / 2)
    assert direction_loss(predicted, target, line(1.0, 1.0, 0.0)).item() == 0
    assert direction_loss(predicted, torch.zeros_like(target), weight).item() == 0


def test_published_directions_are_squared_angles_by_area():
    target, predicted = vectors((1, 0), (0, 1)), vectors((0, 1), (0, 1))
    found = published_direction_loss(predicted, target, line(4.0, 9.0), ONES)
    assert found.item() == pytest.approx((math.pi / 2) ** 2 / 2 / (2 + 1), rel=1e-4)
    assert published_direction_loss(predicted, target, line(0.0, 9.0), ONES).item() < 1e-4


def test_gradient_of_angles_is_finite_where_vectors_agree():
    predicted = vectors((1, 0), (-1, 0)).requires_grad_()
    loss = published_direction_loss(predicted, vectors((1, 0), (1, 0)), line(4.0, 4.0), ONES)
    loss.backward()
    assert torch.isfinite(predicted.grad).all()


def test_weight_by_area():
    assert area_weight(torch.tensor([0.0, 4.0, 100.0])).tolist() == pytest.approx([0, 0.5, 0.1])


def test_ordinal_depth_counts_edges_that_are_exceeded():
    # level 1 of two edges: the first is exceeded, the second is not
    right = torch.tensor([40.0, -40.0]).reshape(1, 2, 1, 1)
    assert depth_loss(right, line(1), line(1.0)).item() == pytest.approx(0)
    assert depth_loss(-right, line(1), line(1.0)).item() == pytest.approx(40)
    assert depth_loss(right * 0, line(1), line(1.0)).item() == pytest.approx(math.log(2))


def test_depth_as_classes():
    logits = torch.tensor([0.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
    assert class_depth_loss(logits, line(2), line(1.0)).item() == pytest.approx(math.log(3))


def test_published_depth_is_each_level_against_the_others():
    """Two levels, probabilities 0.8 and 0.2: both outputs count 3, so twice 3 log 0.8."""
    logits = torch.log(torch.tensor([0.8, 0.2])).reshape(1, 2, 1, 1)
    found = published_depth_loss(logits, line(0), line(4.0), line(1.0))
    assert found.item() == pytest.approx(-2 * 3 * math.log(0.8) * 0.5 / (0.5 + 1), rel=1e-4)
    worse = published_depth_loss(logits, line(1), line(4.0), line(1.0))
    assert worse.item() == pytest.approx(-2 * 3 * math.log(0.2) * 0.5 / (0.5 + 1), rel=1e-4)


def test_published_depth_has_finite_gradients_for_certain_predictions():
    logits = torch.tensor([90.0, -90.0]).reshape(1, 2, 1, 1).requires_grad_()
    for level in (0, 1):
        published_depth_loss(logits, line(level), line(0.0), line(1.0)).backward()
    assert torch.isfinite(logits.grad).all()


def test_the_rim_counts_more():
    classes = torch.zeros(1, 1, 9, dtype=torch.uint8)
    classes[..., 3:8] = 1
    levels = torch.tensor([[[0, 0, 0, 1, 3, 3, 3, 1, 0]]])
    found = rim_weight(levels, classes, 3.0)[0, 0].tolist()
    assert found == [1, 3, 3, 3, 1, 1, 1, 3, 3]

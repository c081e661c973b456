"""Instances in a batch, and where they are known, by hand."""

import torch

from instaseg.methods.known import inner_labels, inside_image, instance_count, known_weight


def test_inner_labels_and_their_number():
    labels = torch.arange(5 * 6).reshape(1, 1, 5, 6)
    assert inner_labels(labels, (1, 2)).tolist() == [[[[8, 9], [14, 15], [20, 21]]]]
    assert torch.equal(inner_labels(labels, (0, 0)), labels)
    two = torch.tensor([[[[9, 1, 0, 2, 9]], [[9, 3, 0, 0, 9]]]])
    assert instance_count(two, (0, 1)).tolist() == [[[2, 0, 1]]]


def test_known_weight_by_hand():
    """Complete background 1, unknown background 1/4, instances 1 whether complete or not."""
    count = torch.tensor([[[0, 0, 1, 2]]])
    mask = torch.tensor([[[True, False, True, False]]])
    assert known_weight(count, mask, 0.25).tolist() == [[[1.0, 0.25, 1.0, 1.0]]]


def test_labels_beyond_the_image_are_not_known():
    labels = torch.tensor([[[-1, -1, 0, 3, -1]], [[-1, 2, 0, 3, -1]]]).unsqueeze(1)
    assert inside_image(labels, (0, 1)).tolist() == [[[False, True, True]], [[True, True, True]]]

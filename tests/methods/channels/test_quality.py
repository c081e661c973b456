"""Scores of predicted channels."""

import numpy as np
import pytest

from instaseg.methods.channels import channels_from_labels
from instaseg.methods.channels.config import ChannelsSettings
from instaseg.methods.channels.quality import quality, quality_name
from instaseg.methods.channels.registry import channels_of

NAMES = ("foreground", "contour", "distance", "flow")


def score(prediction, truth, mask=None):
    settings = ChannelsSettings(channels=NAMES)
    channels = channels_of(settings, 2)
    return quality(
        prediction, truth, mask, channels=channels, settings=settings, spacing=(1.0, 1.0)
    )


def perfect(labels):
    return {name: channels_from_labels(labels, [name]) for name in NAMES}


def test_perfect_channels(touching_labels):
    found = score(perfect(touching_labels), touching_labels)
    assert found["foreground.IoU"] == found["contour.IoU"] == 1
    assert found["distance.minus_mae"] == found["flow.minus_mae"] == 0
    channels = channels_of(ChannelsSettings(channels=NAMES), 2)
    assert tuple(found) == tuple(quality_name(one) for one in channels)


def test_errors_are_counted_where_channels_are_learnt(touching_labels):
    prediction = perfect(touching_labels)
    prediction["distance"] = np.where(touching_labels > 0, prediction["distance"] + 0.5, 9)
    prediction["foreground"] = np.ones((1, 7, 10))
    found = score(prediction, touching_labels)
    assert found["distance.minus_mae"] == pytest.approx(-0.5)
    assert found["foreground.IoU"] == pytest.approx(24 / 70)


def test_unknown_background_is_left_out(touching_labels):
    prediction = perfect(touching_labels) | {"foreground": np.full((1, 7, 10), 255, np.uint8)}
    mask = np.zeros((7, 10))
    mask[:, 9] = 1
    assert score(prediction, touching_labels, mask)["foreground.IoU"] == pytest.approx(24 / 31)


def test_voxels_of_two_instances_are_left_out(touching_labels):
    layers = np.stack([touching_labels == 1, touching_labels == 2]).astype(np.uint8)
    prediction = perfect(touching_labels)
    assert score(prediction, layers)["foreground.IoU"] == 1
    layers[0, 2:5, 4:6] = 1
    prediction["foreground"][0, 2:5, 4:6] = 0
    assert score(prediction, layers)["foreground.IoU"] == 1


def test_nothing_to_compare():
    labels = np.zeros((4, 4), int)
    found = score(perfect(labels), labels)
    assert "distance.minus_mae" not in found
    assert found["foreground.IoU"] == 1

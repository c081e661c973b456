"""What channels are."""

import math

import pytest

from instaseg.errors import ConfigError
from instaseg.methods.channels.config import CHANNEL_NAMES, ChannelsSettings
from instaseg.methods.channels.registry import channels_of, context_of, describe


def one(name, ndim=2, **tables):
    return channels_of(ChannelsSettings.model_validate({"channels": [name], **tables}), ndim)[0]


@pytest.mark.parametrize("name", CHANNEL_NAMES)
def test_every_channel_is_complete(name):
    channel = describe(name, ChannelsSettings(), 3)
    assert channel.name == name
    assert channel.key == f"volumes/pred_{name}"
    assert len(channel.context) == 3
    assert channel.low <= channel.background <= channel.high
    assert (channel.activation == "sigmoid") == (channel.loss == "bce")


def test_components():
    assert [one("flow", ndim).channels for ndim in (2, 3)] == [2, 3]
    assert [one("rays", ndim).channels for ndim in (2, 3)] == [32, 96]
    assert one("rays", rays={"number": 8}).channels == 8
    assert one("affinities", 3).offsets == ((-1, 0, 0), (0, -1, 0), (0, 0, -1))


def test_polarity_follows_the_settings():
    assert one("distance").polarity == "high_inside"
    assert one("distance", distance={"polarity": "low_inside"}).polarity == "low_inside"
    assert one("contour").polarity == one("ridge").polarity == "low_inside"


def test_range_follows_the_scale():
    assert one("distance").high == 1.0
    assert one("distance", distance={"scale": "physical"}).high == math.inf
    assert one("offset_x", offset={"scale": "physical"}).low == -math.inf
    assert one("signed_distance").background == -1.0


def test_context():
    assert one("contour").context == (1, 1)
    assert one("contour", contour={"mode": "dense_legacy"}).context == (2, 2)
    assert one("contour", contour={"thickness": 3}).context == (32, 32)
    assert one("flow", 3, context=[4, 16, 16]).context == (4, 16, 16)
    assert one("affinities", affinities={"offsets": [[-3, 2], [0, -9]]}).context == (3, 9)
    assert one("affinities", affinities={"widen_borders": 2}).context == (3, 3)
    both = channels_of(ChannelsSettings(channels=("foreground", "contour")), 2)
    assert context_of(both) == (1, 1)


def test_another_loss_brings_its_activation():
    assert one("distance", losses=["bce"]).activation == "sigmoid"
    assert one("distance", losses=["mse"]).activation == "none"
    assert one("foreground", losses=["mse"]).activation == "sigmoid"
    assert one("foreground", losses=["default"]).loss == "bce"


@pytest.mark.parametrize(
    ("name", "tables", "message"),
    [
        ("offset_z", {}, "found offset_z, which only volumes have"),
        ("flow", {"context": [1, 2, 3]}, r"expected 1 or 2 numbers .* found \[1, 2, 3\]"),
        ("rays", {"losses": ["bce"]}, r'expected "l1" or "mse" for rays, found "bce"'),
        ("signed_distance", {"losses": ["bce"]}, "lie between -1 and 1"),
        ("affinities", {"affinities": {"offsets": [[0, 0]]}}, "not all 0"),
        ("affinities", {"affinities": {"offsets": [[1, 0, 0]]}}, "lists of 2 whole numbers"),
        ("affinities", {"affinities": {"offsets": [[1, 0], [1, 0]]}}, "every offset once"),
    ],
)
def test_refused(name, tables, message):
    with pytest.raises(ConfigError, match=message):
        one(name, **tables)

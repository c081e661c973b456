"""Predictions of turned images: a network that turns with the image gives the same."""

import numpy as np
import pytest

from instaseg.errors import ConfigError
from instaseg.geometry import Symmetry, flips, identity, plane_rotations_and_flips
from instaseg.methods.channels import channels_from_labels
from instaseg.methods.channels.config import CHANNEL_NAMES, ChannelsSettings
from instaseg.methods.channels.heads import head_of
from instaseg.methods.channels.registry import channels_of

OFFSETS = ("offset_z", "offset_y", "offset_x")
FLIP_X = Symmetry((0, 1), (False, True))
SWAP = Symmetry((1, 0), (False, False))


def images():
    """Return an image of one odd-sided L and a ball, whose middles are unique."""
    labels = np.zeros((13, 12), np.int32)
    labels[1:6, 1:4] = 1
    labels[1:4, 4:8] = 1
    labels[6:11, 5:10] = 2
    return labels


def volumes():
    labels = np.zeros((5, 9, 10), np.int32)
    labels[1:4, 1:6, 1:4] = 1
    labels[0:3, 2:7, 4:9] = 2
    return labels


def check(name, labels, symmetry, **tables):
    """Compare the turned targets of a turned image with the targets of the image."""
    spacing = (1.0,) * labels.ndim
    settings = ChannelsSettings.model_validate({"channels": [name], **tables})
    head = head_of(channels_of(settings, labels.ndim)[0])
    found = channels_from_labels(symmetry.apply(labels), [name], spacing, settings=tables)
    expected = channels_from_labels(labels, [name], spacing, settings=tables)
    back = head.turn(found, symmetry.inverse())
    if name == "affinities":  # pairs that reach beyond the image are nothing
        inner = (slice(None), *(slice(2, -2),) * labels.ndim)
        back, expected = back[inner], expected[inner]
    np.testing.assert_allclose(back, expected, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in CHANNEL_NAMES if name not in OFFSETS])
def test_images_turn(name):
    for symmetry in plane_rotations_and_flips(2):
        check(name, images(), symmetry)


@pytest.mark.parametrize("name", [name for name in CHANNEL_NAMES if name != "offset_z"])
def test_images_flip(name):
    for symmetry in flips(2):
        check(name, images(), symmetry)


@pytest.mark.parametrize("name", [name for name in CHANNEL_NAMES if name != "rays"])
def test_volumes_flip(name):
    for symmetry in flips(3):
        check(name, volumes(), symmetry)


@pytest.mark.parametrize("name", ["flow", "affinities", "offset_z", "contour"])
def test_volumes_turn(name):
    for symmetry in plane_rotations_and_flips(3):
        check(name, volumes(), symmetry)


@pytest.mark.parametrize("offsets", [[[-1, 0], [0, -1], [-2, 1], [1, 2], [-2, -1], [-1, 2]]])
def test_long_affinities_turn(offsets):
    for symmetry in plane_rotations_and_flips(2):
        check("affinities", images(), symmetry, affinities={"offsets": offsets})


def test_an_affinity_moves_to_the_other_voxel_of_its_pair():
    settings = ChannelsSettings.model_validate(
        {"channels": ["affinities"], "affinities": {"offsets": [[0, -1]]}}
    )
    head = head_of(channels_of(settings, 2)[0])
    turned = head.turn(np.array([[[0.1, 0.2, 0.3]]]), FLIP_X)
    assert turned.tolist() == [[[0.3, 0.3, 0.2]]]  # flipped: 0.3 0.2 0.1, then seen from behind


def test_components_of_a_flow_change_sign_and_place():
    head = head_of(channels_of(ChannelsSettings(channels=("flow",)), 2)[0])
    flow = np.arange(4.0).reshape(2, 1, 2)
    assert head.turn(flow, FLIP_X).tolist() == [[[1, 0]], [[-3, -2]]]
    assert head.turn(flow, SWAP).tolist() == [[[2], [3]], [[0], [1]]]


@pytest.mark.parametrize(
    ("name", "tables", "symmetry", "message"),
    [
        ("offset_x", {}, SWAP, "use 'flips', or the channel flow"),
        ("rays", {"rays": {"number": 6}}, SWAP, "a multiple of 4 as method.rays.number"),
        ("rays", {"rays": {"number": 5}}, FLIP_X, "mirror images lie between them"),
        (
            "affinities",
            {"affinities": {"offsets": [[-1, 0], [-3, 1]]}},
            FLIP_X,
            r"found \[-3, 1\] in method.affinities.offsets",
        ),
    ],
)
def test_refused_symmetries(name, tables, symmetry, message):
    settings = ChannelsSettings.model_validate({"channels": [name], **tables})
    head = head_of(channels_of(settings, 2)[0])
    with pytest.raises(ConfigError, match=message):
        head.turn(np.zeros((head.channels, 2, 2)), symmetry)


def test_rays_of_volumes_are_not_turned():
    head = head_of(channels_of(ChannelsSettings(channels=("rays",)), 3)[0])
    stays = np.zeros((96, 2, 2, 2))
    assert head.turn(stays, identity(3)).shape == stays.shape
    with pytest.raises(ConfigError, match="use symmetries = 'none'"):
        head.turn(stays, flips(3)[1])

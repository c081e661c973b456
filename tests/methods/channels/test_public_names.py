"""The two functions that other programs call: from labels to channels and back."""

import numpy as np
import pytest

from instaseg.methods.channels import channels_from_labels, instances_from_channels
from instaseg.methods.channels.legacy import GENERATIONS
from instaseg.metrics import score_instances
from instaseg.regions.distance import nearest

BEFORE, MIDDLE, FROM = GENERATIONS


def cells(shape, centres, radius):
    """Return balls around centres, cut where they meet."""
    points = np.zeros(shape, np.int32)
    for number, centre in enumerate(centres, start=1):
        points[centre] = number
    return nearest(points, (1,) * len(shape), most=radius)[0]


IMAGE = cells((44, 52), [(11, 14), (13, 31), (29, 15), (31, 37)], 8.5)
"""Four cells, two pairs of which touch; none touches the border."""
VOLUME = cells((20, 30, 32), [(9, 9, 9), (10, 9, 22), (10, 21, 16)], 6.5)


def f1(found, truth):
    scores = score_instances(truth, found, ndim=truth.ndim, centre_lines="skip")
    return scores["confusion_matrix"]["th_0_75"]["fscore"]


@pytest.mark.parametrize("letters", [BEFORE, MIDDLE])
@pytest.mark.parametrize("channels", ["BC", "BP", "BCM", "BCD", "BCDv2", "BDv2"])
@pytest.mark.parametrize("truth", [IMAGE, VOLUME], ids=["image", "volume"])
def test_there_and_back_by_the_letters_of_each_generation(channels, letters, truth):
    kept = truth.copy()
    predicted = channels_from_labels(truth, channels, letters=letters)
    predicted.setflags(write=False)
    assert f1(instances_from_channels(predicted, channels, letters=letters), truth) == 1
    np.testing.assert_array_equal(truth, kept)


@pytest.mark.parametrize(
    ("letters", "truth"),
    [
        (BEFORE, cells((60, 64), [(14, 14), (16, 48), (44, 14), (46, 48)], 9)),
        (MIDDLE, cells((48, 52), [(12, 12), (12, 34), (32, 14), (34, 36)], 7)),
    ],
)
def test_dv2_alone_where_all_low_background_reaches_the_border(letters, truth):
    predicted = channels_from_labels(truth, "Dv2", letters=letters)
    assert f1(instances_from_channels(predicted, "Dv2", letters=letters), truth) == 1


@pytest.mark.parametrize("channels", [["F", "C"], ["Db", "R"], ["F", "Gv", "Gh"], ["F", "V", "H"]])
def test_there_and_back_by_letters_of_today(channels):
    predicted = channels_from_labels(IMAGE, channels, letters=FROM)
    assert f1(instances_from_channels(predicted, channels, letters=FROM), IMAGE) == 1


def test_both_read_letters_alike_where_nothing_is_said():
    spacing = (2.0, 1.0)
    predicted = channels_from_labels(IMAGE, "BCD", spacing)
    found = instances_from_channels(predicted, "BCD", spacing)
    np.testing.assert_array_equal(
        found, instances_from_channels(predicted, "BCD", spacing, letters=BEFORE)
    )
    assert f1(found, IMAGE) == 1


def test_both_take_the_same_settings():
    own = {"contour": {"mode": "inner"}, "distance": {"scale": "instance"}}
    predicted = channels_from_labels(IMAGE, "BCD", settings=own)
    found = instances_from_channels(predicted, "BCD", settings=own)
    np.testing.assert_array_equal(found > 0, IMAGE > 0)
    assert f1(found, IMAGE) == 1


def test_three_hundred_instances_come_back():
    ids = np.arange(1, 301, dtype=np.uint16).reshape(15, 20)
    truth = np.kron(ids, np.pad(np.ones((7, 7), np.uint16), ((1, 0), (1, 0))))
    found = instances_from_channels(channels_from_labels(truth, "BCD"), "BCD")
    assert (found.max(), f1(found, truth)) == (300, 1)

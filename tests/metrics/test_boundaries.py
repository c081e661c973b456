import numpy as np
import pytest

from instaseg.errors import DataError
from instaseg.metrics.boundaries import boundary_scores
from instaseg.metrics.config import score_names
from instaseg.metrics.overlaps import find_instances
from instaseg.metrics.scores import score_instances


def scores(truth, prediction, *, ndim=2, extent="sections"):
    sides = (find_instances(np.array(side), ndim=ndim) for side in (truth, prediction))
    return boundary_scores(*sides, extent=extent)


TRUTH = [[1, 1, 0, 2, 2]]


@pytest.mark.parametrize(
    ("prediction", "rand", "information"),
    [
        ([[1, 1, 0, 2, 2]], 1, 1),
        # a boundary of any width is thinned; what lies on the true one does not count
        ([[1, 0, 0, 0, 2]], 1, 1),
        ([[9, 9, 9, 4, 4]], 1, 1),
        # merged: n = 2, 2 in one column; 2 * (4 + 4) / (8 + 16), no information
        ([[1, 1, 1, 1, 1]], 2 / 3, 0),
        # split: n = 1, 1, 2; 2 * 6 / (8 + 6), and 2 * ln 2 / (ln 2 + 3/2 ln 2)
        ([[1, 2, 0, 3, 3]], 6 / 7, 4 / 5),
        # nothing: four instances of a voxel; 2 * 4 / (8 + 4), and 2 * ln 2 / (ln 2 + 2 ln 2)
        ([[0, 0, 0, 0, 0]], 2 / 3, 2 / 3),
    ],
)
def test_worked_out_by_hand(prediction, rand, information):
    found = scores(TRUTH, prediction)
    assert found["rRAND"] == pytest.approx(rand)
    assert found["rINF"] == pytest.approx(information)


def test_boundaries_thin_in_the_plane():
    truth = np.ones((6, 7), int)
    truth[:, 3:] = 2
    prediction = truth.copy()
    prediction[:, 2:4] = 0
    prediction[2:4, 5:] = 0
    assert scores(truth, prediction) == {"rRAND": 1.0, "rINF": 1.0}


def test_sections_have_instances_of_their_own():
    truth = np.array([TRUTH, TRUTH])
    prediction = np.array([[[1, 1, 0, 2, 2]], [[2, 2, 0, 1, 1]]])
    apart = scores(truth, prediction, ndim=3)
    assert apart["rRAND"] == pytest.approx(1)
    assert apart["rINF"] == pytest.approx(1)
    # as a volume all four n are 2: 2 * 16 / (32 + 32), no information
    whole = scores(truth, prediction, ndim=3, extent="volume")
    assert whole["rRAND"] == pytest.approx(1 / 2)
    assert whole["rINF"] == pytest.approx(0)
    # one plane split, one right: squares 6 + 8 against 16 and 14
    half = scores(truth, np.array([[[1, 2, 0, 3, 3]], TRUTH]), ndim=3)
    assert half["rRAND"] == pytest.approx(2 * 14 / (16 + 14))


def test_nothing_to_compare_and_one_of_each():
    assert all(np.isnan(value) for value in scores([[0, 0]], [[1, 1]]).values())
    assert scores([[1, 1]], [[3, 3]]) == {"rRAND": 1.0, "rINF": 1.0}


def test_off_by_default_and_named():
    truth = np.array(TRUTH)
    assert "rRAND" not in score_instances(truth, truth, ndim=2)["general"]
    general = score_instances(truth, truth, ndim=2, boundaries="volume")["general"]
    assert (general["rRAND"], general["rINF"]) == (1.0, 1.0)
    assert "general.rINF" in score_names(boundaries="sections")
    assert "general.rINF" not in score_names()


def test_channels_are_fine_unless_they_overlap():
    channels = np.array([[[1, 1, 0, 0, 0]], [[0, 0, 0, 1, 1]]])
    assert scores(channels, TRUTH) == {"rRAND": 1.0, "rINF": 1.0}
    channels[1, 0, 1] = 1
    with pytest.raises(
        DataError, match=r"rRAND and rINF: expected instances that do not overlap, found ground"
    ):
        scores(channels, TRUTH)

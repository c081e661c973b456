import numpy as np
import pytest
from matplotlib.colors import to_rgb

from instaseg.metrics.classes import score_classes
from instaseg.report.class_overlays import class_colour, class_figure, class_score_figure
from instaseg.report.config import VisualizeSettings
from instaseg.report.figures import VERMILLION

LOOK = VisualizeSettings()
RAW = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
TRUTH = np.array([[0, 1, 1, 2], [0, 1, -1, 2], [0, 0, 0, 0]])
FOUND = np.array([[0, 1, 2, 2], [0, 1, 1, 2], [1, 0, 0, 0]])


def drawn(axes, number=-1):
    """Return the colours (y, x, 4) of a panel's picture, by default the last one drawn."""
    return np.asarray(axes.images[number].get_array())


def test_classes_have_their_colours():
    figure = class_figure(RAW, FOUND, TRUTH, settings=LOOK, title="a")
    panels = figure.axes
    assert len(panels) == 4
    assert drawn(panels[1])[0, 1, :3] == pytest.approx(to_rgb(class_colour(1)))
    assert drawn(panels[2])[0, 2, :3] == pytest.approx(to_rgb(class_colour(2)))
    assert drawn(panels[2])[2, 1, 3] == 0
    assert [t.get_text() for t in panels[2].get_legend().get_texts()] == [
        "prediction",
        "class 1",
        "class 2",
    ]


def test_wrong_voxels_stand_out_and_ignored_ones_do_not_count():
    panel = class_figure(RAW, FOUND, TRUTH, settings=LOOK).axes[3]
    wrong = drawn(panel, 1)
    assert wrong[0, 2, :3] == pytest.approx(to_rgb(VERMILLION))
    assert (wrong[..., 3] > 0).sum() == 2
    assert (drawn(panel, 2)[..., 3] > 0).sum() == 1
    (text,) = panel.get_legend().get_texts()
    assert text.get_text() == "wrong, 18.2 % of the pixels shown"


def test_without_truth_there_are_two_panels():
    assert len(class_figure(RAW, FOUND, None, settings=LOOK).axes) == 2


def test_volumes_show_the_greatest_class_or_the_middle_plane():
    volume = np.stack([FOUND, 0 * FOUND, 0 * FOUND])
    raw = np.stack([RAW[0]] * 3)[np.newaxis]
    projected = class_figure(raw, volume, None, settings=LOOK).axes[1]
    assert drawn(projected)[0, 1, 3] > 0
    middle = class_figure(raw, volume, None, settings=VisualizeSettings(plane="middle")).axes[1]
    assert drawn(middle)[..., 3].max() == 0


def test_scores_are_bars_per_class():
    scores = score_classes(TRUTH, FOUND, num_classes=3, spacing=(1, 1))
    figure = class_score_figure({"a": scores, "b": scores})
    assert len(figure.axes[0].patches) == 6
    assert figure.axes[0].get_xticklabels()[0].get_text() == "background"

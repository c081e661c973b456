import numpy as np
from matplotlib.colors import to_rgb

from instaseg.geometry import Box
from instaseg.report.config import VisualizeSettings
from instaseg.report.crops import View, crop_figure, label_colours, section
from instaseg.report.figures import BLUE, VERMILLION


def view(shape):
    return View(np.ones((1, *shape), np.float32), np.ones((1, *shape), np.int32))


def test_square_has_its_own_height_and_width():
    figure = crop_figure(
        view((40, 60)),
        [("crop", view((8, 20))), ("augmented", view((8, 20)))],
        box=Box((3, 10), (11, 30)),
        voxel=(5, 12),
        settings=VisualizeSettings(),
    )
    assert len(figure.axes) == 6
    for axes in (figure.axes[0], figure.axes[3]):
        (square,) = axes.patches
        assert (square.get_x(), square.get_y()) == (9.5, 2.5)
        assert (square.get_width(), square.get_height()) == (20, 8)
        assert square.get_edgecolor()[:3] == to_rgb(BLUE)
        (point,) = axes.lines
        assert (point.get_xdata()[0], point.get_ydata()[0]) == (12, 5)
        assert point.get_color() == VERMILLION


def test_crops_drawn_evenly_have_no_point():
    figure = crop_figure(
        view((9, 9)), [], box=Box((0, 0), (4, 4)), voxel=None, settings=VisualizeSettings()
    )
    assert not figure.axes[0].lines


def test_labels_have_colours_and_no_class_is_grey():
    picture = label_colours(np.array([[[0, 1, 2, -1]]]))
    assert picture[0, 0].tolist() == [0, 0, 0]
    assert picture[0, 1].tolist() != picture[0, 2].tolist()
    assert len(set(picture[0, 3].tolist())) == 1


def test_volumes_show_their_middle():
    raw = np.arange(5, dtype=np.float32).reshape(1, 5, 1, 1)
    labels = np.arange(3).reshape(1, 3, 1, 1)
    shown = section(raw, labels)
    assert (shown.raw.item(), shown.labels.item()) == (2, 1)

import numpy as np
import pytest

from instaseg.metrics import score_instances
from instaseg.report.curves import _smooth, loss_figure, score_figure
from instaseg.report.figures import png_bytes, save_figure

ROWS = [
    {"iteration": i, "seconds": i / 2, "loss": 1 / i, "loss_patch": 0.6 / i, "loss_fg": 0.4 / i,
     "learning_rate": 1e-4} | ({"validation_loss": 1.5 / i} if i % 10 == 0 else {})
    for i in range(1, 41)
]  # fmt: skip


def test_loss_curve_has_every_part():
    figure = loss_figure(ROWS)
    loss, rate = figure.axes
    lines = {line.get_label(): line for line in loss.get_lines()}
    assert {"patch", "fg", "loss, smoothed", "validation"} <= set(lines)
    assert lines["validation"].get_xdata().tolist() == [10, 20, 30, 40]
    assert loss.get_yscale() == "log"
    assert rate.get_lines()[0].get_ydata().max() == 1e-4
    assert png_bytes(figure, dpi=40) == png_bytes(loss_figure(ROWS), dpi=40)


@pytest.mark.parametrize("rows", [[], [{"iteration": 1, "loss": 0.0}], [{"iteration": 3}]])
def test_short_logs(rows):
    assert png_bytes(loss_figure(rows), dpi=40)


def test_one_part_is_not_drawn_twice():
    rows = [{"iteration": i, "loss": 2.0, "loss_patch": 2.0} for i in range(3)]
    labels = [line.get_label() for line in loss_figure(rows).axes[0].get_lines()]
    assert "patch" not in labels


def test_smoothing_is_a_mean_over_neighbours():
    values = np.arange(40.0)
    values[20] += 9
    smooth = _smooth(values)
    assert smooth[[0, 5, 20]].tolist() == [0.5, 5, 23]
    assert _smooth(np.array([3.0])).tolist() == [3]


def test_score_curves_name_each_method():
    truth = np.array([[1, 1, 0, 2, 2]])
    scores = {
        "ours": score_instances(truth, truth, ndim=2, thresholds=(0.33,)),
        "otsu": score_instances(truth, truth > 1, ndim=2, thresholds=(0.33,)),
    }
    figure = score_figure(scores, thresholds=(0.33,))
    for axes in figure.axes:
        assert [line.get_label() for line in axes.get_lines()] == ["ours", "otsu"]
        assert set(axes.get_lines()[0].get_ydata()) == {1.0}
        assert 0.33 in axes.get_lines()[0].get_xdata()
    assert set(figure.axes[0].get_lines()[1].get_ydata()) == {0.5}
    assert png_bytes(score_figure({}), dpi=40)


def test_saved_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new folder" / "loss.png"
    save_figure(loss_figure(ROWS), path, dpi=40)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in path.parent.iterdir()] == ["loss.png"]

from functools import partial

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection

from instaseg.io.arrays import open_array, slabs, write_array
from instaseg.metrics import overlaps
from instaseg.metrics.kinds import find_errors
from instaseg.metrics.overlaps import find_instances
from instaseg.report import overlays
from instaseg.report.config import VisualizeSettings
from instaseg.report.figures import png_bytes
from instaseg.report.overlays import (
    displayed,
    instance_colours,
    instance_outlines,
    overlay_figure,
    prediction_figure,
    shown_instances,
    shown_plane,
)

PLAIN = VisualizeSettings(percentiles=(0, 100), gamma=1, dpi=40)
MIDDLE = VisualizeSettings(percentiles=(0, 100), gamma=1, dpi=40, plane="middle")


def outlines_of(labels, settings, *, ndim):
    found = find_instances(labels, ndim=ndim)
    return instance_outlines(shown_instances(found, settings), len(found))


def test_one_channel_is_grey_between_its_percentiles():
    shown = displayed(np.array([[[10, 20], [30, 10]]], np.uint16), PLAIN)
    assert shown.shape == (2, 2, 3)
    assert shown[..., 0].tolist() == [[0, 0.5], [1, 0]]
    assert (shown[..., 0] == shown[..., 2]).all()


def test_two_channels_are_magenta_and_green_three_are_colours():
    raw = np.zeros((2, 1, 2))
    raw[0, 0, 0] = raw[1, 0, 1] = 5
    assert displayed(raw, PLAIN).tolist() == [[[1, 0, 1], [0, 1, 0]]]
    assert displayed(np.eye(3).reshape(3, 1, 3), PLAIN)[0].tolist() == np.eye(3).tolist()
    assert displayed(np.ones((5, 2, 2)), PLAIN).shape == (2, 2, 3)


def test_nan_and_constant_images_are_shown_too():
    raw = np.array([[[np.nan, 1.0, np.inf]]])
    assert np.isfinite(displayed(raw, PLAIN)).all()
    assert not displayed(np.full((1, 2, 2), 7), PLAIN).any()


def test_volumes_are_projected_or_cut():
    raw = np.zeros((1, 3, 1, 3))
    raw[0, 0, 0, 0], raw[0, 1, 0, 1] = 1, 1
    assert displayed(raw, PLAIN)[..., 0].tolist() == [[1, 1, 0]]
    assert displayed(raw, MIDDLE)[..., 0].tolist() == [[0, 1, 0]]


def test_the_outline_of_one_voxel_goes_round_it():
    labels = np.zeros((5, 6), int)
    labels[2, 4] = 3
    ((line,),) = outlines_of(labels, PLAIN, ndim=2)
    assert sorted(set(map(tuple, line.tolist()))) == [(3.5, 2), (4, 1.5), (4, 2.5), (4.5, 2)]


def test_outlines_of_overlapping_channels_and_volumes():
    channels = np.zeros((2, 5, 5), bool)
    channels[0, 2], channels[1, :, 2] = True, True
    assert [len(lines) for lines in outlines_of(channels, PLAIN, ndim=2)] == [1, 1]
    volume = np.zeros((3, 4, 4), int)
    volume[0, 0, 0], volume[0, 0, 2], volume[1, 2, 2] = 1, 1, 2
    assert [len(lines) for lines in outlines_of(volume, PLAIN, ndim=3)] == [2, 1]
    assert [len(lines) for lines in outlines_of(volume, MIDDLE, ndim=3)] == [0, 1]


@pytest.mark.parametrize("shape", [(1, 20, 30), (3, 20, 30), (1, 4, 20, 30)])
def test_figure_shows_each_kind_and_counts_them(shape):
    raw = np.random.default_rng(0).random(shape)
    truth = np.zeros(shape[1:], int)
    truth[..., 2:8, 2:8], truth[..., 12:18, 2:8] = 1, 2
    prediction = np.zeros(shape[1:], int)
    prediction[..., 2:8, 2:8], prediction[..., 12:18, 20:28] = 4, 5
    errors = find_errors(truth, prediction, ndim=len(shape) - 1)
    before = raw.copy()
    figure = overlay_figure(raw, errors, settings=PLAIN, title="a <sample>")
    assert (raw == before).all()
    image, outlines, kinds = figure.axes
    assert len(image.get_images()) == 1
    texts = [text.get_text() for text in kinds.get_legend().get_texts()]
    assert texts == [
        "matched, 1", "missed, 1", "inexact, 0", "false, 1", "split, 0", "merged, 0",
    ]  # fmt: skip
    assert [t.get_text() for t in outlines.get_legend().get_texts()] == [
        "truth, 2",
        "prediction, 2",
    ]
    filled = [c for c in kinds.collections if isinstance(c, PolyCollection)]
    lines = [c for c in kinds.collections if isinstance(c, LineCollection)]
    assert sum(len(c.get_paths()) for c in filled) == 2
    assert sum(len(c.get_paths()) for c in lines) == 3
    assert png_bytes(figure, dpi=40).startswith(b"\x89PNG")


def test_figure_without_any_instance_and_without_truth():
    raw = np.zeros((1, 8, 300), np.uint8)
    nothing = np.zeros((8, 300), int)
    png_bytes(overlay_figure(raw, find_errors(nothing, nothing, ndim=2), settings=PLAIN), dpi=40)
    figure = prediction_figure(raw, np.ones((2, 8, 300), bool), settings=PLAIN, title="t")
    assert figure.axes[1].get_legend().get_texts()[0].get_text() == "prediction, 2"
    png_bytes(figure, dpi=40)


CROSS = np.zeros((3, 30, 30), bool)
CROSS[0, 14:17], CROSS[1, :, 14:17], CROSS[2, 2:5, 2:5] = True, True, True


def test_crossing_instances_get_a_panel_where_their_colours_mix():
    raw = np.zeros((1, 30, 30), np.uint8)
    figure = overlay_figure(raw, find_errors(CROSS, CROSS, ndim=2), settings=PLAIN)
    assert len(figure.axes) == 4
    single = figure.axes[3]
    mixed = single.get_images()[1].get_array()
    assert single.get_title() == "every prediction in a colour, 9 pixels shared"
    first, second = mixed[15, 2], mixed[2, 15]
    assert not np.allclose(first, second)
    np.testing.assert_allclose(mixed[15, 15, :3], (first[:3] + second[:3]) / 2, atol=1e-6)
    assert mixed[15, 15, 3] > first[3] > mixed[25, 25, 3] == 0
    # Both outlines run through the crossing: three instances, three closed lines.
    lines = [c for c in single.collections if isinstance(c, LineCollection)]
    assert [len(c.get_paths()) for c in lines] == [1, 1, 1]
    assert len({tuple(c.get_edgecolor()[0]) for c in lines[:2]}) == 2


def test_instances_apart_get_no_panel_more():
    apart = np.array([[1, 1, 0, 2]])
    figure = overlay_figure(np.zeros((1, 1, 4)), find_errors(apart, apart, ndim=2), settings=PLAIN)
    assert len(figure.axes) == 3
    assert len(prediction_figure(np.zeros((1, 1, 4)), apart, settings=PLAIN).axes) == 2
    assert len(prediction_figure(np.zeros((1, 30, 30)), CROSS, settings=PLAIN).axes) == 3


def test_projections_of_volumes_may_cross_and_a_plane_does_not():
    volume = np.zeros((5, 30, 30), int)
    volume[1][CROSS[0]], volume[3][CROSS[1]] = 1, 2
    raw = np.zeros((1, 5, 30, 30))
    assert len(prediction_figure(raw, volume, settings=PLAIN).axes) == 3
    assert len(prediction_figure(raw, volume, settings=MIDDLE).axes) == 2


def test_neighbours_have_different_colours():
    rng = np.random.default_rng(0)
    tiles = rng.permutation(48).reshape(6, 8) + 1
    labels = np.kron(tiles, np.ones((3, 3), int))
    shown = shown_instances(find_instances(labels, ndim=2), PLAIN)
    colours = np.array(instance_colours(shown, 48))[tiles - 1]
    assert (colours[1:] != colours[:-1]).all()
    assert (colours[:, 1:] != colours[:, :-1]).all()


@pytest.mark.parametrize("settings", [PLAIN, MIDDLE])
def test_volumes_on_disk_are_shown_part_by_part_as_they_are_in_memory(
    settings, tmp_path, monkeypatch
):
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 7, (2, 7, 9, 11)) * (rng.random((2, 7, 9, 11)) < 0.1)
    write_array(tmp_path / "a.zarr", "labels", volume, chunks=(1, 2, 4, 4))
    monkeypatch.setitem(overlaps._SIDE, 3, 4)
    monkeypatch.setattr(overlays, "slabs", partial(slabs, voxels=2 * 9 * 11))
    stored = open_array(tmp_path / "a.zarr", "labels")
    plane = volume.max(axis=1) if settings is PLAIN else volume[:, 3]
    np.testing.assert_array_equal(shown_plane(stored, settings, lead=1), plane)
    found = find_instances(stored, ndim=3)
    pictures = {one.number: one for one in shown_instances(found, settings)}
    for number, (channel, label) in enumerate(zip(found.channel, found.label, strict=True)):
        seen = volume[channel] == label
        seen = seen.any(axis=0) if settings is PLAIN else seen[3]
        picture = np.zeros_like(seen)
        if number in pictures:
            assert all(pictures[number].mask.any(axis=axis)[[0, -1]].all() for axis in (0, 1))
            picture[pictures[number].box] = pictures[number].mask
        np.testing.assert_array_equal(picture, seen)

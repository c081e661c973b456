"""Targets of channels: golden values, and what holds for all of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage
from skimage.segmentation import find_boundaries

from instaseg.errors import ConfigError, DataError
from instaseg.methods.channels import channels_from_labels, instances_from_channels
from instaseg.methods.channels.config import CHANNEL_NAMES, ChannelsSettings
from instaseg.methods.channels.registry import channels_of, context_of

MIDDLE, FROM = "biapy_3.0_to_3.5", "biapy_from_3.6"
FLAT = [name for name in CHANNEL_NAMES if name != "offset_z"]
INNER = {"contour": {"mode": "inner"}}


def row(labels, channels, number=3, **options):
    return channels_from_labels(labels, channels, **options)[-1, number]


@pytest.mark.parametrize(
    ("mode", "values"),
    [
        ("thick", [1, 1, 0, 1, 1, 0, 0, 0, 1, 1]),
        ("inner", [0, 1, 0, 1, 1, 0, 0, 0, 1, 0]),
        # as skimage says and does for all types but int64, where it overflows and gives `thick`
        ("outer", [1, 0, 0, 1, 1, 0, 0, 0, 0, 1]),
        ("dense", [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ("dense_legacy", [1] * 10),  # three voxels across leave no core
    ],
)
def test_contours_by_hand(touching_labels, mode, values):
    found = row(touching_labels, ["contour"], settings={"contour": {"mode": mode}})
    assert found.tolist() == values


@pytest.mark.parametrize("mode", ["thick", "inner"])
def test_interior_by_hand(touching_labels, mode):
    found = row(touching_labels, ["interior"], settings={"contour": {"mode": mode}})
    assert found.tolist() == [0, 0, 1, 0, 0, 1, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("letter", "letters", "values"),
    [
        ("D", "biapy_before_3.0", [0, 1, 2, 1, 1, 2, 2, 2, 1, 0]),
        ("BCD", MIDDLE, [0, 1, 0, 1, 1, 0, 0, 0, 1, 0]),
        ("Dv2", "biapy_before_3.0", [0.553, 1, 0, 1, 1, 0, 0, 0, 1, 0.553]),
        ("Db", FROM, [0, 0, 1, 0, 0, 1, 1, 1, 0, 0]),
        ("D", FROM, [-1, 0.5, 1, 0.5, 0.5, 1, 1, 1, 0.5, -1]),
        ("Dc", FROM, [0, 0.707, 0, 0.707, 0.894, 0.447, 0, 0.447, 0.894, 0]),
        ("Dn", FROM, [0, 0, 0.037, 0.296, 0.512, 0.216, 0.064, 0.008, 0, 0]),
        ("H", FROM, [0, -1, 0, 1, -1, -0.5, 0, 0.5, 1, 0]),
        ("T", FROM, [0, 0, 0, 1, 1, 0, 0, 0, 0, 0]),
    ],
)
def test_golden_values(touching_labels, letter, letters, values):
    found = row(touching_labels, letter, letters=letters, settings=INNER)
    np.testing.assert_allclose(found, values, atol=5e-4)


def test_golden_neighbour_distance_itself(touching_labels):
    plain = {"neighbour_distance": {"closing": 1, "power": 1}}
    found = row(touching_labels, ["neighbour_distance"], settings=plain)
    np.testing.assert_allclose(found, [0, 0, 0.333, 0.667, 0.8, 0.6, 0.4, 0.2, 0, 0], atol=5e-4)


def test_golden_ridge_of_an_image(touching_labels):
    found = channels_from_labels(touching_labels, "Dv2", settings=INNER)[0]
    assert not found[[0, 0, -1, -1], [0, -1, 0, -1]].any()
    np.testing.assert_allclose(found[[1, 5], 1:9], 0.553, atol=5e-4)


def test_golden_affinities(touching_labels):
    found = channels_from_labels(touching_labels, "A", letters=MIDDLE)
    assert found.sum(axis=(1, 2)).tolist() == [16, 18]


def test_golden_distances_of_larger_instances():
    labels = np.zeros((15, 20), np.int32)
    labels[3:12, 2:9], labels[3:12, 9:18] = 1, 2
    found = row(labels, "BCD", 7, letters=MIDDLE, settings=INNER)
    expected = [0, 0, 3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1, 0, 1, 2, 3, 4, 0, 0]
    assert found.tolist() == expected
    # without contours, instances that touch are still measured one by one
    assert row(labels, "BD", 7, letters=MIDDLE)[7:11].tolist() == [2, 3, 4, 3]


def test_golden_border_weights():
    from instaseg.methods.channels.config import BorderWeightSettings
    from instaseg.methods.channels.instances import Instances
    from instaseg.methods.channels.targets_distances import border_weight

    strong = BorderWeightSettings(strength=10, sigma=5)
    for first, second, weight in ((1, 1, 9.231), (1, 3, 7.261), (5, 5, 1.353)):
        labels = np.zeros((1, first + second + 1), np.int32)
        labels[0, 0], labels[0, -1] = 1, 2
        found = border_weight(Instances(labels, (1, 1)), strong)
        assert found[0, first] == pytest.approx(weight, abs=5e-4)
    alone = border_weight(Instances(np.eye(4, dtype=np.int32)[:1], (1, 1)), strong)
    assert not alone.any()


LENGTHS = {
    "ball": ("centre", {}),
    "bell": ("centre", {"kind": "gauss"}),
    "tube": ("centre", {"kind": "skeleton"}),
    "signed distance": ("signed_distance", {"scale": "tanh"}),
    "ridge": ("ridge", {}),
    "neighbours": ("neighbour_distance", {"scale": "physical"}),
}


@pytest.mark.parametrize("size", [0.5, 8.0])
@pytest.mark.parametrize(("name", "table"), LENGTHS.values(), ids=LENGTHS)
def test_lengths_that_are_left_out_follow_the_size_of_a_voxel(name, table, size):
    labels = np.zeros((17, 40), np.int32)
    labels[1:16, 1:20], labels[1:16, 20:39] = 1, 2

    def made(spacing, **own):
        return channels_from_labels(labels, [name], spacing, settings={name: {**table, **own}})

    found = made((1.5 * size, size))
    np.testing.assert_allclose(found, made((1.5, 1.0)), atol=1e-6)
    written = {"centre": "radius", "signed_distance": "alpha"}.get(name, "cap")
    physical = made((1.5 * size, size), **{written: 3.0})
    assert (physical != found).any()


@pytest.mark.parametrize("size", [0.5, 8.0])
def test_border_weights_follow_the_size_of_a_voxel(size):
    from instaseg.methods.channels.config import BorderWeightSettings
    from instaseg.methods.channels.instances import Instances
    from instaseg.methods.channels.targets_distances import border_weight

    labels = np.zeros((1, 9), np.int32)
    labels[0, 0], labels[0, -1] = 1, 2
    own = BorderWeightSettings(strength=10)
    one, other = (border_weight(Instances(labels, (side, side)), own) for side in (1.0, size))
    assert one[0, 4] > 0
    np.testing.assert_allclose(other, one, rtol=1e-5)


def test_order_is_the_one_asked_for(touching_labels):
    one = channels_from_labels(touching_labels, "BC")
    other = channels_from_labels(touching_labels, "CB")
    np.testing.assert_array_equal(one, other[::-1])


@given(labels=arrays.arrays(np.int32, (5, 6), elements=st.integers(0, 3)))
@hypothesis_settings(max_examples=30)
def test_contours_are_those_of_skimage(labels):
    for mode in ("thick", "inner", "outer"):
        found = channels_from_labels(labels, ["contour"], settings={"contour": {"mode": mode}})
        np.testing.assert_array_equal(found[0], find_boundaries(labels, mode=mode))


@given(labels=arrays.arrays(np.int32, (4, 5, 6), elements=st.integers(0, 2)))
@hypothesis_settings(max_examples=15)
def test_contours_of_volumes_are_those_of_skimage(labels):
    for mode in ("thick", "inner", "outer"):
        found = channels_from_labels(labels, ["contour"], settings={"contour": {"mode": mode}})
        np.testing.assert_array_equal(found[0], find_boundaries(labels, mode=mode))


@given(labels=arrays.arrays(np.int32, (5, 7), elements=st.integers(0, 3)))
@hypothesis_settings(max_examples=30)
def test_a_thickness_of_one_voxel_is_none(labels):
    for mode in ("thick", "inner"):
        plain = channels_from_labels(labels, ["contour"], settings={"contour": {"mode": mode}})
        thick = {"contour": {"mode": mode, "thickness": 1.0}}
        np.testing.assert_array_equal(
            channels_from_labels(labels, ["contour"], settings=thick), plain
        )


def test_contours_are_as_thick_as_asked_for():
    labels = np.zeros((1, 20), np.int32)
    labels[0, 8:] = 1
    thick = {"contour": {"thickness": 3.0}}
    assert np.flatnonzero(row(labels, ["contour"], 0, settings=thick)).tolist() == [
        5,
        6,
        7,
        8,
        9,
        10,
    ]
    half = row(labels, ["contour"], 0, spacing=(1, 2), settings=thick)
    assert np.flatnonzero(half).tolist() == [7, 8]
    touched = np.array([[1, 1, 1, 1, 2, 2, 2, 2]])
    wide = {"touching": {"thickness": 2.0}}
    assert row(touched, ["touching"], 0, settings=wide).tolist() == [0, 0, 1, 1, 1, 1, 0, 0]


def test_distances_with_spacing():
    labels = np.zeros((5, 7, 7), np.int32)
    labels[1:4, 1:6, 1:6] = 1
    far = {"distance": {"scale": "physical"}}
    found = channels_from_labels(labels, ["distance"], (4, 1, 1), settings=far)[0]
    assert found[2, 3].tolist() == [0, 1, 2, 3, 2, 1, 0]
    expected = ndimage.distance_transform_edt(labels, sampling=(4, 1, 1))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_offsets_and_centres_with_spacing():
    labels = np.zeros((5, 3, 3), np.int32)
    labels[1:4, 1, 1] = 9
    away = {"offset": {"scale": "physical"}, "centre": {"radius": 4.0}}
    names = ["offset_z", "centre"]
    offset, near = channels_from_labels(labels, names, (4, 1, 1), settings=away)[:, :, 1, 1]
    assert offset.tolist() == [0, -4, 0, 4, 0]
    assert near.tolist() == [0, 1, 1, 1, 0]
    assert channels_from_labels(labels, ["centre"], (5, 1, 1), settings=away).sum() == 1


def test_signed_distance_by_tanh():
    labels = np.zeros((1, 8), np.int32)
    labels[0, 4:] = 1
    tanh = {"signed_distance": {"scale": "tanh", "alpha": 2.0}}
    found = row(labels, ["signed_distance"], 0, settings=tanh)
    np.testing.assert_allclose(
        found, np.tanh(np.array([-4, -3, -2, -1, 1, 2, 3, 4]) / 2), rtol=1e-6
    )


def test_ridge_falls_within_cap():
    labels = np.zeros((9, 40), np.int32)
    labels[:, :5] = 1
    far = {"ridge": {"cap": 10.0}, **INNER}
    found = row(labels, ["ridge"], 4, settings=far)
    np.testing.assert_allclose(found[:7], [0, 0.2, 0.4, 0.6, 1, 0.9, 0.8], atol=1e-6)
    assert not found[15:].any()


def test_centre_kinds():
    labels = np.zeros((9, 15), np.int32)
    labels[3:6, 1:14] = 1
    point = channels_from_labels(labels, ["centre"], settings={"centre": {"radius": 1.0}})[0]
    assert np.argwhere(point).tolist() == [[3, 7], [4, 6], [4, 7], [4, 8], [5, 7]]
    bell = {"centre": {"kind": "gauss", "radius": 2.0}}
    found = channels_from_labels(labels, ["centre"], settings=bell)[0]
    assert found[4, 7] == 1
    assert found[4, 9] == pytest.approx(np.exp(-0.5))
    tube = {"centre": {"kind": "skeleton", "radius": 0.5}}
    line = channels_from_labels(labels, ["centre"], settings=tube)[0]
    assert line[4, 3:12].all()
    assert line.sum() <= line[4].sum() + 2  # its ends may turn
    far = {"centre_distance": {"kind": "skeleton", "scale": "physical"}}
    assert row(labels, ["centre_distance"], 3, settings=far)[4:11].tolist() == [1] * 7


def test_a_centre_of_mass_outside_is_moved_inside():
    labels = np.zeros((7, 7), np.int32)
    labels[1:6, 1:6] = 1
    labels[2:5, 2:6] = 0  # a C
    found = channels_from_labels(labels, ["centre"], settings={"centre": {"radius": 0.5}})[0]
    assert np.argwhere(found).tolist() == [[3, 1]]


def test_neighbours_of_an_isolated_instance():
    labels = np.zeros((5, 5), np.int32)
    labels[1:3, 1:3] = 4
    assert not channels_from_labels(labels, ["neighbour_distance"]).any()


def test_affinities_at_any_offset(touching_labels):
    pairs = {"affinities": {"offsets": [[1, -2], [0, 3], [-9, 0]]}}
    found = channels_from_labels(touching_labels, ["affinities"], settings=pairs)
    expected = np.zeros_like(found)
    for n, (dy, dx) in enumerate([(1, -2), (0, 3), (-9, 0)]):
        for y, x in np.argwhere(touching_labels):
            a, b = y + dy, x + dx
            if 0 <= a < 7 and 0 <= b < 10:
                expected[n, y, x] = touching_labels[a, b] == touching_labels[y, x]
    np.testing.assert_array_equal(found, expected)


def test_widened_borders_open_gaps(touching_labels):
    wide = {"affinities": {"offsets": [[0, 1]], "widen_borders": 1}}
    found = channels_from_labels(touching_labels, ["affinities"], settings=wide)[0, 3]
    assert found.tolist() == [0, 1, 0, 0, 0, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("name", FLAT)
def test_no_instance(name):
    found = channels_from_labels(np.zeros((6, 5), np.uint8), [name])
    channel = channels_of(ChannelsSettings(channels=(name,)), 2)[0]
    expected = {"ridge": 0.0}.get(name, channel.background)
    np.testing.assert_array_equal(found, np.full((channel.channels, 6, 5), expected))


@pytest.mark.parametrize("name", FLAT)
def test_one_instance_everywhere(name):
    found = channels_from_labels(np.full((7, 5), 3, np.uint16), [name])
    assert np.isfinite(found).all()
    if name in ("foreground", "interior"):
        assert found.all()
    if name in ("distance", "signed_distance", "flow", "rays", "offset_x"):
        assert found.any()


@pytest.mark.parametrize("name", FLAT)
def test_one_voxel(name):
    labels = np.zeros((5, 5), np.int64)
    labels[2, 3] = 2**40
    found = channels_from_labels(labels, [name])
    channel = channels_of(ChannelsSettings(channels=(name,)), 2)[0]
    assert np.isfinite(found).all()
    assert (found >= channel.low).all()
    assert (found <= channel.high).all()
    if name in ("distance", "centre", "contour", "signed_distance"):
        assert found[0, 2, 3] == 1


@pytest.mark.parametrize("name", FLAT)
def test_three_hundred_instances(name):
    labels = np.kron(np.arange(300).reshape(15, 20), np.ones((3, 3), int))
    every = channels_from_labels(labels, [name])
    assert np.isfinite(every).all()
    if name == "foreground":  # 256 does not vanish
        assert every.sum() == 9 * 299
    if name == "centre_distance":
        assert every.reshape(15, 3, 20, 3).max(axis=(1, 3)).all(where=labels[::3, ::3] > 0)


@pytest.mark.parametrize("name", FLAT)
def test_a_hole_is_background(name):
    labels = np.zeros((9, 9), np.int32)
    labels[1:8, 1:8] = 1
    labels[4, 4] = 0
    found = channels_from_labels(labels, [name])
    assert np.isfinite(found).all()
    if name in ("foreground", "interior", "distance", "rays", "flow"):
        assert not found[:, 4, 4].any()
    if name == "contour":
        assert found[0, 4, 4] == 1


@pytest.mark.parametrize("name", FLAT)
def test_labels_stay_as_they_are(name, many_labels):
    before = many_labels.copy()
    channels_from_labels(many_labels, [name])  # many_labels cannot be written to
    np.testing.assert_array_equal(many_labels, before)


@pytest.mark.parametrize("name", FLAT)
def test_a_volume_of_one_slice_is_an_image(name, many_labels):
    if name == "rays":
        pytest.skip("rays of volumes point elsewhere")
    labels = many_labels[:30, :30]
    flat = channels_from_labels(labels, [name], (2, 1.5))
    # lengths that are left out follow the smallest side, which is in the plane
    deep = channels_from_labels(labels[None], [name], (4, 2, 1.5))[:, 0]
    expected = np.concatenate([np.zeros_like(flat[:1]), flat]) if len(deep) > len(flat) else flat
    if name == "affinities":
        expected[0] = 0
    np.testing.assert_allclose(deep, expected, atol=1e-6)


@pytest.mark.parametrize("name", FLAT)
def test_the_crop_of_targets_is_the_target_of_the_crop(name, many_labels):
    own = ChannelsSettings(channels=(name,), context=(28,))
    tables = {"context": (28,), "neighbour_distance": {"scale": "physical", "cap": 12.0}}
    context = context_of(channels_of(own, 2))
    begin, end = (30, 31), (42, 50)
    whole = channels_from_labels(many_labels, [name], settings=tables)
    around = tuple(slice(b - c, e + c) for b, e, c in zip(begin, end, context, strict=True))
    part = channels_from_labels(many_labels[around], [name], settings=tables)
    inner = tuple(slice(c, n - c) for c, n in zip(context, part.shape[1:], strict=True))
    inside = tuple(slice(b, e) for b, e in zip(begin, end, strict=True))
    np.testing.assert_allclose(
        part[(slice(None), *inner)], whole[(slice(None), *inside)], atol=1e-6
    )


def test_ids_do_not_matter(many_labels):
    names = [name for name in FLAT if name != "rays"]
    mixed = many_labels.astype(np.uint64) * 7919
    np.testing.assert_array_equal(
        channels_from_labels(many_labels, names), channels_from_labels(mixed, names)
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((4, 4), np.float32), "expected whole numbers"),
        (np.zeros(4, np.int32), r"expected whole numbers with axes .* of shape \[4\]"),
        (np.full((4, 4), -1), "expected numbers from 0 on, found -1"),
    ],
)
def test_refused_labels(labels, message):
    with pytest.raises(DataError, match=message):
        channels_from_labels(labels, ["foreground"])


def test_channels_of_volumes_are_refused_for_images():
    with pytest.raises(ConfigError, match="only volumes have"):
        channels_from_labels(np.zeros((4, 4), int), ["offset_z"])


def test_spacing_is_a_number_for_each_axis(many_labels):
    sides = (2.0,) + (1.0,) * (many_labels.ndim - 1)
    as_array = channels_from_labels(many_labels, ["distance"], np.array(sides))
    np.testing.assert_array_equal(as_array, channels_from_labels(many_labels, ["distance"], sides))
    foreground = (many_labels > 0)[np.newaxis].astype(np.float32)
    instances_from_channels(foreground, ["foreground"], np.array(sides))
    for wrong in ((1.0, *sides), (0.0, *sides[1:]), (np.nan, *sides[1:])):
        with pytest.raises(DataError, match=f"spacing: expected {many_labels.ndim} numbers above"):
            channels_from_labels(many_labels, ["distance"], wrong)
        with pytest.raises(DataError, match="one for each axis, found"):
            instances_from_channels(foreground, ["foreground"], wrong)

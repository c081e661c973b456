"""Properties of shapes whose values are known; golden values of digital discs, balls and boxes."""

import math

import numpy as np
import pytest
from skimage.measure import perimeter_crofton

from instaseg.errors import DataError
from instaseg.postprocess.config import PROPERTIES
from instaseg.postprocess.properties import (
    Body,
    check_properties,
    crofton_perimeter,
    measure,
)


def ball(radius, ndim):
    place = np.indices((2 * radius + 1,) * ndim) - radius
    return (place**2).sum(axis=0) <= radius**2


def one(name, mask, spacing=None, perimeter="crofton"):
    spacing = spacing or (1.0,) * mask.ndim
    return measure(Body(mask, spacing, perimeter), [name])[name]


@pytest.mark.parametrize(
    ("mask", "circularity"),
    [
        (ball(5, 2), 0.936),
        (ball(10, 2), 0.916),
        (ball(20, 2), 0.908),
        (np.ones((10, 10), bool), 0.970),
        (np.ones((2, 20), bool), 0.314),
    ],
)
def test_circularity_along_the_contour(mask, circularity):
    found = one("circularity", mask, perimeter="contour")
    assert found == pytest.approx(circularity, abs=6e-4)
    assert one("elongation", mask, perimeter="contour") == pytest.approx(1 / found)


def test_circularity_by_crossings_is_nearer_to_one():
    assert one("circularity", ball(20, 2)) == pytest.approx(0.968, abs=5e-4)


@pytest.mark.parametrize(
    ("mask", "cubed"),
    [
        (np.ones((10, 10, 10), bool), 0.630),
        (ball(5, 3), 0.763),
        (ball(10, 3), 0.761),
        (ball(20, 3), 0.778),
    ],
)
def test_sphericity_and_its_cube(mask, cubed):
    assert one("sphericity_cubed", mask) == pytest.approx(cubed, abs=6e-4)
    assert one("sphericity", mask) == pytest.approx(one("sphericity_cubed", mask) ** (1 / 3))


def test_one_pixel_has_a_perimeter_only_by_crossings():
    pixel = np.ones((1, 1), bool)
    assert one("circularity", pixel, perimeter="contour") == 0
    assert one("circularity", pixel) > 1


def test_lengths_areas_and_volumes_are_physical():
    box = np.ones((2, 3, 4), bool)
    spacing = (5.0, 0.5, 2.0)
    found = measure(
        Body(box, spacing), ["voxels", "volume", "diameter", "feret_diameter", "solidity"]
    )
    assert found == {
        "voxels": 24,
        "volume": 120.0,
        "diameter": 10.0,
        "feret_diameter": pytest.approx(math.sqrt(10**2 + 1.5**2 + 8**2)),
        "solidity": pytest.approx(1.0),
    }
    assert one("area", box[0], (0.5, 2.0)) == 12.0
    # a rectangle's diagonal, not its side
    assert one("feret_diameter", np.ones((3, 4), bool)) == pytest.approx(5.0)


def test_solidity_is_the_share_of_the_hull():
    corner = np.array([[1, 0], [1, 1]], bool)
    assert one("solidity", corner) == pytest.approx(3 / 3.5)


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_crossings_are_those_of_skimage_for_square_pixels(scale):
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random((9, 12)) < 0.6
        wanted = perimeter_crofton(np.pad(mask, 1), directions=4) * scale
        assert crofton_perimeter(mask, (scale, scale)) == pytest.approx(wanted)


def test_crossings_honour_pixels_that_are_not_square():
    place = np.indices((41, 81)) - np.array([20, 40]).reshape(2, 1, 1)
    disc = (2 * place[0]) ** 2 + place[1] ** 2 <= 40**2
    assert crofton_perimeter(disc, (2.0, 1.0)) == pytest.approx(2 * math.pi * 40, rel=0.015)
    turned = crofton_perimeter(disc.T, (1.0, 2.0))
    assert crofton_perimeter(disc, (2.0, 1.0)) == pytest.approx(turned)


def test_surface_honours_spacing():
    flat = np.ones((4, 20, 20), bool)
    cube = measure(Body(flat, (5.0, 1.0, 1.0)), ["surface", "sphericity"])
    assert cube["surface"] == pytest.approx(6 * 400, rel=0.06)
    assert cube["sphericity"] == pytest.approx((math.pi / 6) ** (1 / 3), rel=0.06)


@pytest.mark.parametrize(
    ("mask", "spacing"),
    [
        (np.ones((1, 1), bool), (1.0, 2.0)),
        (np.ones((1, 6), bool), (1.0, 2.0)),
        (ball(3, 2), (1.0, 1.0)),
        (np.ones((1, 1, 1), bool), (3.0, 1.0, 1.0)),
        (np.ones((1, 4, 1), bool), (3.0, 1.0, 1.0)),
        (np.ones((1, 4, 5), bool), (3.0, 1.0, 1.0)),
        (ball(3, 3), (3.0, 1.0, 1.0)),
    ],
)
def test_everything_can_be_measured_of_any_shape(mask, spacing):
    names = [name for name, axes in PROPERTIES.items() if mask.ndim in axes]
    before = mask.copy()
    found = measure(Body(mask, spacing), names)
    assert list(found) == names
    assert all(math.isfinite(value) for value in found.values())
    assert (mask == before).all()


def test_attributes_of_regionprops_have_its_names():
    ring = np.ones((5, 5), bool)
    ring[2, 2] = False
    assert one("euler_number", ring) == 0
    assert one("area_filled", ring, (2.0, 2.0)) == 100
    assert one("extent", ring) == pytest.approx(24 / 25)


def test_the_contour_needs_square_pixels():
    check_properties(["circularity"], (2.0, 1.0), "crofton")
    check_properties(["circularity"], (2.0, 2.0), "contour")
    check_properties(["area"], (2.0, 1.0), "contour")
    with pytest.raises(DataError, match=r"expected square pixels, found the spacing \[2.0, 1.0\]"):
        check_properties(["circularity"], (2.0, 1.0), "contour")

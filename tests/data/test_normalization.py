"""Normalised intensities, worked out by hand and against numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from instaseg.data.config import DataSettings, NormalizationSettings
from instaseg.data.normalization import (
    Statistics,
    fit,
    for_sample,
    normalize,
)
from instaseg.io.arrays import write_array
from instaseg.io.samples import find_samples

NONE = Statistics()


def test_uint8_white_becomes_one():
    """The published normalisation turned 255 into 65 025 (STYLE, section 4, row 9)."""
    image = np.array([[[0, 51, 255]]], dtype=np.uint8)
    result = normalize(image, NormalizationSettings(kind="min_max"), NONE)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [[[0, 0.2, 1]]], rtol=1e-6)
    assert image.max() == 255  # not changed


def test_mean_and_deviation():
    # Mean 4, deviations -3, -1, 4: variance (9 + 1 + 16) / 3.
    image = np.array([[[1, 3, 8]]], dtype=np.int16)
    result = normalize(image, NormalizationSettings(kind="mean_std"), NONE)
    np.testing.assert_allclose(result, np.array([[[-3, -1, 4]]]) / np.sqrt(26 / 3), rtol=1e-6)


def test_each_channel_has_its_own_numbers():
    image = np.array([[[0, 10]], [[100, 300]]], dtype=np.uint16)
    result = normalize(image, NormalizationSettings(kind="min_max"), NONE)
    np.testing.assert_allclose(result, [[[0, 1]], [[0, 1]]], atol=1e-6)


def test_none_leaves_values():
    image = np.array([[[0, 255]]], dtype=np.uint8)
    assert normalize(image, NormalizationSettings(kind="none"), NONE).tolist() == [[[0, 255]]]


@pytest.mark.parametrize("kind", ["percentile", "min_max", "mean_std"])
def test_constant_image_becomes_zero(kind):
    image = np.full((1, 4, 4), 9, dtype=np.uint8)
    assert (normalize(image, NormalizationSettings(kind=kind), NONE) == 0).all()


def test_a_few_bright_pixels_on_an_even_ground():
    """The percentiles 1 and 99.8 are both 5 here; the range is used instead."""
    image = np.full((1, 100, 100), 5, dtype=np.uint8)
    image[0, 0, 0] = 105
    result = normalize(image, NormalizationSettings(), NONE)
    assert result.min() == 0
    assert result.max() == pytest.approx(1)


@settings(max_examples=40)
@given(
    image=npst.arrays(
        st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.float32]),
        npst.array_shapes(min_dims=2, max_dims=3, max_side=12),
        elements=st.integers(0, 120),
    ),
    lower=st.floats(0, 40),
    upper=st.floats(60, 100),
)
def test_percentiles_are_those_of_numpy(image, lower, upper):
    low, high = np.percentile(image, [lower, upper])
    if high <= low:
        low, high = float(image.min()), float(image.max())
    expected = (image - low) / (high - low) if high > low else image - low
    found = normalize(image[np.newaxis], NormalizationSettings(lower=lower, upper=upper), NONE)
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


def two_images(folder, dtypes=(np.uint8, np.uint8)):
    write_array(folder / "a.zarr", "volumes/raw", np.array([[0, 10], [20, 30]], dtypes[0]))
    write_array(folder / "b.zarr", "volumes/raw", np.array([[50, 60], [70, 200]], dtypes[1]))
    return find_samples(folder, DataSettings())


@pytest.mark.parametrize("dtypes", [(np.uint8, np.uint8), (np.uint16, np.float32)])
def test_scope_dataset_keeps_brightness(tmp_path, dtypes):
    samples = two_images(tmp_path, dtypes)
    wanted = NormalizationSettings(kind="min_max", scope="dataset")
    statistics = fit(samples, wanted)
    assert statistics == Statistics((0.0,), (1 / 200,))
    assert for_sample(samples[0], wanted, statistics) == statistics
    np.testing.assert_allclose(normalize(samples[0].read_raw(), wanted, statistics).max(), 0.15)


def test_scope_sample_measures_each_image(tmp_path):
    samples = two_images(tmp_path)
    wanted = NormalizationSettings(kind="min_max")
    statistics = fit(samples, wanted)
    assert statistics == NONE
    assert for_sample(samples[1], wanted, statistics) == Statistics((50.0,), (1 / 150,))
    raw = samples[1].read_raw()
    np.testing.assert_allclose(
        for_sample(samples[1], wanted, statistics).apply(raw), normalize(raw, wanted, NONE)
    )


def test_statistics_survive_a_checkpoint():
    statistics = Statistics((1.0, 2.0), (0.5, 0.25))
    assert Statistics.from_dict(statistics.to_dict()) == statistics
    assert Statistics.from_dict(NONE.to_dict()) == NONE


def test_values_that_are_not_finite_do_not_count():
    image = np.array([[[0, 4, np.nan, np.inf]]], dtype=np.float32)
    result = normalize(image, NormalizationSettings(kind="min_max"), NONE)
    assert result[0, 0, :2].tolist() == [0, 1]

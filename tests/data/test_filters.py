"""Training samples left out by what they look like."""

import numpy as np
import pytest

from instaseg.data.config import DataSettings, FilterSettings
from instaseg.data.filters import filtered, foreground_share, image_values
from instaseg.errors import DataError
from instaseg.io.arrays import write_array
from instaseg.io.samples import find_samples


@pytest.fixture
def samples(tmp_path):
    """Return images that are dark, bright, and bright on one half, with 0, 1/4, 1/2 labelled."""
    for name, bright, labelled in (("a", 0, 0), ("b", 8, 2), ("c", 4, 4)):
        image, labels = np.full((8, 8), 10, np.uint8), np.zeros((8, 8), np.uint16)
        image[:bright] = 200
        labels[:labelled] = 3
        write_array(tmp_path / "x" / f"{name}.tif", "", image)
        write_array(tmp_path / "y" / f"{name}.tif", "", labels)
    return find_samples(tmp_path, DataSettings())


def names(samples):
    return "".join(sample.name for sample in samples)


def test_values_and_foreground(samples):
    assert image_values(samples[2]) == {"mean": 105, "min": 10, "max": 200, "std": 95}
    assert [foreground_share(sample) for sample in samples] == [0, 0.25, 0.5]


def test_foreground_of_instance_channels_is_their_union(tmp_path):
    instances = np.zeros((2, 4, 4), np.uint8)
    instances[0, :2] = instances[1, 1:3] = 1
    write_array(tmp_path / "a.zarr", "volumes/raw", np.zeros((4, 4), np.uint8))
    write_array(tmp_path / "a.zarr", "volumes/gt_instances", instances)
    (sample,) = find_samples(tmp_path, DataSettings())
    assert foreground_share(sample) == 0.75


@pytest.mark.parametrize(
    ("ranges", "kept", "reason"),
    [
        ({}, "abc", ""),
        ({"foreground": (0.1, 1)}, "bc", "a: foreground 0 outside of [0.1, 1]"),
        ({"foreground": (0.25, 0.25)}, "b", "c: foreground 0.5 outside of [0.25, 0.25]"),
        ({"mean": (0, 150)}, "ac", "b: mean 200 outside of [0, 150]"),
        ({"std": (1, float("inf"))}, "c", "a: std 0 outside of [1, inf]"),
        ({"max": (100, 255), "foreground": (0.3, 1)}, "c", "a: foreground 0 outside of"),
    ],
)
def test_samples_are_kept_where_all_values_lie_in_their_ranges(samples, ranges, kept, reason):
    found, left_out = filtered(samples, FilterSettings(**ranges))
    assert names(found) == kept
    assert len(left_out) == 3 - len(kept)
    assert reason in "; ".join(left_out)


def test_something_must_be_kept(samples):
    with pytest.raises(DataError, match="found that all 3 are left out \\(a: mean 10 outside"):
        filtered(samples, FilterSettings(mean=(1000, 2000)))

"""Small generated images shared by the tests."""

from pathlib import Path

import numpy as np
import pytest

from instaseg.io.arrays import write_array


def draw_nuclei(shape, count, seed):
    """Return a grey image (uint8) of bright discs on a noisy ground, and their labels (uint16)."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, dtype=np.uint16)
    grid = np.indices(shape)
    for number in range(1, count + 1):
        centre = [rng.uniform(3, n - 3) for n in shape]
        radius = rng.uniform(4, 7)
        distance = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
        labels[(distance < radius**2) & (labels == 0)] = number
    image = np.where(labels > 0, 160, 40) + rng.normal(0, 8, shape)
    return np.clip(image, 0, 255).astype(np.uint8), labels


def write_images(folder: Path, names, *, shape=(48, 56), image_folder="x", label_folder="y"):
    """Write TIFF pairs of generated nuclei."""
    for seed, name in enumerate(names):
        image, labels = draw_nuclei(shape, 8, seed)
        write_array(folder / image_folder / f"{name}.tif", "", image)
        write_array(folder / label_folder / f"{name}.tif", "", labels)
    return folder


@pytest.fixture
def image_folder(tmp_path):
    """Return a data set of three TIFF pairs in x/ and y/."""
    return write_images(tmp_path / "images", ["a", "b", "c"])

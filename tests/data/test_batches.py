"""Batches depend on the seed and the number of the iteration alone."""

import itertools

import numpy as np
import pytest
import torch

from instaseg.data import batches
from instaseg.data.batches import (
    CropSource,
    CropSpec,
    crop_seed,
    training_batches,
    validation_batches,
)
from instaseg.data.config import (
    AugmentationSettings,
    DataSettings,
    OverlaySettings,
    SamplingSettings,
)
from instaseg.data.normalization import Statistics
from instaseg.errors import DataError
from instaseg.geometry import Box
from instaseg.io.arrays import write_array
from instaseg.io.convert import convert
from instaseg.io.samples import find_samples

CROP = CropSpec((32, 32), (20, 20), (3, 3))


def distance_like(labels, spacing):
    return {"inside": (labels[:, 3:-3, 3:-3] > 0).any(axis=0).astype(np.float32) * spacing[0]}


def source_of(folder, *, targets=None, crop=CROP):
    settings = DataSettings()
    samples = tuple(find_samples(folder, settings))
    return CropSource(
        samples, crop, SamplingSettings(), settings.normalization, Statistics(), targets
    )


def first_batches(source, count, **changes):
    arguments = {"batch_size": 2, "num_workers": 0, "seed": 4} | changes
    made = training_batches(source, augmentation=AugmentationSettings(), **arguments)
    return list(itertools.islice(made, count))


def same(first, second):
    return all(torch.equal(a[key], b[key]) for a, b in zip(first, second, strict=True) for key in a)


def test_boxes_share_their_centre():
    assert CROP.boxes() == {
        "raw": Box((0, 0), (32, 32)),
        "labels": Box((3, 3), (29, 29)),
        "mask": Box((6, 6), (26, 26)),
    }


def test_contents(image_folder):
    (batch,) = first_batches(source_of(image_folder, targets=distance_like), 1)
    assert {name: (tuple(t.shape), t.dtype) for name, t in batch.items()} == {
        "raw": ((2, 1, 32, 32), torch.float32),
        "labels": ((2, 1, 26, 26), torch.int32),
        "mask": ((2, 20, 20), torch.bool),
        "inside": ((2, 20, 20), torch.float32),
    }
    assert batch["mask"].all()
    assert torch.equal(batch["inside"] > 0, batch["labels"][:, 0, 3:-3, 3:-3] > 0)


def test_two_processes_share_a_batch(image_folder):
    source = source_of(image_folder)
    large = first_batches(source, 2, batch_size=4)
    halves = [first_batches(source, 2, first_element=first) for first in (0, 2)]
    for whole, one, other in zip(large, *halves, strict=True):
        together = {name: torch.cat([one[name], other[name]]) for name in whole}
        assert same([whole], [together])


def test_workers_and_restarts_do_not_matter(image_folder):
    source = source_of(image_folder)
    expected = first_batches(source, 5)
    assert same(first_batches(source, 5, num_workers=2), expected)
    assert same(first_batches(source, 2, first_iteration=3), expected[3:])
    assert not same(first_batches(source, 1, seed=5), expected[:1])
    assert not same(expected[:1], expected[1:2])


def test_samples_on_disk_give_the_same_batches(image_folder, tmp_path, monkeypatch):
    convert(source_of(image_folder).samples, tmp_path / "samples")
    source = source_of(tmp_path / "samples")
    expected = first_batches(source, 3)
    monkeypatch.setattr(batches, "MEMORY_LIMIT", 0)
    assert same(first_batches(source, 3), expected)
    assert same(expected, first_batches(source_of(image_folder), 3))


def test_validation_crops_are_fixed_and_not_augmented(image_folder):
    source = source_of(image_folder)
    made = validation_batches(source, batch_size=2, count=5, seed=4)
    assert [len(batch["raw"]) for batch in made] == [2, 2, 1]
    assert same(made, validation_batches(source, batch_size=2, count=5, seed=4))
    assert not same(made[:1], first_batches(source, 1))
    images = [s.read_labels() for s in source.samples]
    crop = made[0]["labels"][0, 0].numpy()[3:-3, 3:-3]
    windows = (np.lib.stride_tricks.sliding_window_view(i, crop.shape) for i in images)
    assert any((w == crop).all(axis=(2, 3)).any() for w in windows)


def test_seeds_differ():
    seeds = {crop_seed((1,), i, e) for i in range(50) for e in range(4)}
    assert len(seeds) == 200
    assert crop_seed((1,), 2, 3) != crop_seed((2,), 2, 3)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_damaged_sample_is_one_line_from_any_process(image_folder, num_workers):
    source = source_of(image_folder)
    (image_folder / "x" / "b.tif").write_bytes(b"II*\x00 nothing else")
    with pytest.raises(DataError) as caught:
        first_batches(source, 1, num_workers=num_workers)
    assert "b.tif: cannot be read as TIF" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"b.tif: cannot be read"):
        validation_batches(source, batch_size=1, count=1, seed=0)


def write_crossing(folder):
    """Write sample `a` with three worms in two layers, and `b` with two in one."""
    image = np.random.default_rng(0).integers(0, 200, (48, 56)).astype(np.uint8)
    channels = np.zeros((3, 48, 56), np.uint8)
    channels[0, 20:24], channels[1, :, 30:34], channels[2, 40:] = 1, 1, 1
    for name, instances in (("a", channels), ("b", channels[[0, 2]])):
        write_array(folder / f"{name}.zarr", "volumes/raw", image)
        write_array(folder / f"{name}.zarr", "volumes/gt_instances", instances)
    return folder


def test_overlapping_instances_come_in_layers(tmp_path, monkeypatch):
    source = source_of(write_crossing(tmp_path))
    expected = first_batches(source, 4)
    assert {tuple(batch["labels"].shape) for batch in expected} == {(2, 2, 26, 26)}
    assert any((batch["labels"] != 0).all(dim=1).any() for batch in expected)
    monkeypatch.setattr(batches, "MEMORY_LIMIT", 0)
    assert same(first_batches(source, 4), expected)


def test_overlays_have_layers_of_their_own(tmp_path):
    source = source_of(write_crossing(tmp_path))
    overlay = AugmentationSettings(overlay=OverlaySettings(probability=0.5))
    made = training_batches(source, augmentation=overlay, batch_size=3, num_workers=0, seed=1)
    assert next(made)["labels"].shape == (3, 4, 26, 26)

"""Baselines of images that do not fit in memory."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from instaseg.io.arrays import open_array, write_array
from instaseg.io.samples import Sample, Source
from instaseg.methods.semantic.config import SemanticSettings
from instaseg.metrics import otsu_components
from instaseg.metrics.config import ClassEvaluationSettings
from instaseg.stages import evaluate, sizes
from instaseg.stages.context import Dataset
from instaseg.stages.results import classes, instances


def volume(path):
    rng = np.random.default_rng(0)
    raw = (rng.random((2, 7, 9, 11)) < 0.04) * rng.integers(100, 200, (2, 7, 9, 11))
    write_array(path, "volumes/raw", raw.astype(np.uint8), chunks=(2, 3, 4, 4))
    return raw.astype(np.uint8), open_array(path, "volumes/raw")


def test_components_on_disk_are_those_in_memory_and_are_removed(tmp_path, monkeypatch):
    raw, stored = volume(tmp_path / "a.zarr")
    wanted, scratch = otsu_components(raw), tmp_path / "scratch.zarr"
    with instances.otsu_instances(stored, scratch) as found:
        np.testing.assert_array_equal(found, wanted)
        assert not scratch.exists()
    monkeypatch.setattr(sizes, "MOST_AT_ONCE", raw.size - 1)
    monkeypatch.setitem(sizes.BLOCK_SHAPES, 3, (3, 4, 5))
    with instances.otsu_instances(stored, scratch) as found:
        labels = found[tuple(slice(0, n) for n in found.shape)]
        pairs = np.unique(np.stack([labels.ravel(), wanted.ravel()]), axis=1)
        assert pairs.shape[1] == labels.max() + 1 == wanted.max() + 1
        assert wanted.max() > 5
    assert not scratch.exists()


def test_classes_are_worked_out_as_they_are_read(tmp_path):
    raw, stored = volume(tmp_path / "a.zarr")
    with classes.otsu_foreground(stored, tmp_path / "scratch.zarr") as found:
        assert (found[0:7, 2:9, 0:11] == (otsu_components(raw) > 0)[:, 2:]).all()
        assert found.dtype == np.uint8


def test_baselines_of_other_voxels_or_classes_are_worked_out_again(tmp_path):
    volume(tmp_path / "a.zarr")
    raw = Source(tmp_path / "a.zarr", "volumes/raw")
    sample = Sample("a", raw, raw, None, (1.0, 1.0, 1.0), ("um",) * 3)

    def fingerprint_of(resolution=(1.0, 1.0, 1.0), **method):
        context = SimpleNamespace(
            experiment=SimpleNamespace(baseline=lambda *_: tmp_path),
            method=SimpleNamespace(result="classes"),
            method_spec=None,
            config=SimpleNamespace(method=SemanticSettings(**method)),
        )
        samples = (replace(sample, resolution=resolution),)
        settings = ClassEvaluationSettings()
        (task,) = evaluate._baseline_tasks(context, Dataset("test", samples), settings)
        return task.fingerprint

    assert fingerprint_of() == fingerprint_of()
    assert fingerprint_of() != fingerprint_of((4.0, 1.0, 1.0))
    assert fingerprint_of() != fingerprint_of(ignore_index=7)

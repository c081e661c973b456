"""A sample is repaired to the same instances at once and block by block."""

from dataclasses import replace

import numpy as np
import pytest

from instaseg.io.arrays import open_array, write_array
from instaseg.io.samples import read_whole
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.stages import postprocess
from instaseg.stages.labelling import INSTANCES, REPAIRED, stored_fingerprint
from instaseg.stages.postprocess import RepairTask, repair_sample


@pytest.fixture
def task(tmp_path):
    labels = (np.random.default_rng(0).random((20, 30)) < 0.5).astype(np.uint16) * 3
    path = tmp_path / "a.zarr"
    write_array(path, INSTANCES, labels)
    settings = PostprocessingSettings(components="largest", fill_holes="per_instance")
    return RepairTask("a", path, settings, 2, "f")


def test_blocks_are_taken_where_they_are_asked_for_or_needed(task, monkeypatch):
    repair_sample(task)
    at_once = read_whole(open_array(task.path, REPAIRED))
    calls = []
    in_blocks = postprocess.postprocess_blocks

    def counted(*arguments, **named):
        calls.append(named["block_shape"])
        in_blocks(*arguments, **named)

    monkeypatch.setattr(postprocess, "postprocess_blocks", counted)
    for block_shape in ((20, 30), (8, 30), (7, 7)):
        repair_sample(replace(task, block_shape=block_shape))
        np.testing.assert_array_equal(read_whole(open_array(task.path, REPAIRED)), at_once)
    monkeypatch.setattr(postprocess, "MOST_AT_ONCE", 599)
    repair_sample(task)
    np.testing.assert_array_equal(read_whole(open_array(task.path, REPAIRED)), at_once)
    assert calls == [(8, 30), (7, 7), (4096, 4096)]
    assert stored_fingerprint(task.path, REPAIRED) == "f"

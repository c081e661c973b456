"""Points of a volume in blocks are those of the whole."""

import numpy as np
import pytest

from instaseg.blockwise.memory import run_here
from instaseg.blockwise.store import open_store
from instaseg.blockwise.work import BlockWork
from instaseg.io.arrays import write_array
from instaseg.methods.synapses.blocks import find_block_candidates
from instaseg.methods.synapses.config import PointSettings

SHAPE = (10, 40, 44)


def write(prediction, method, path):
    for head in method.heads:
        write_array(path, head.key, prediction[head.name])
    return path


def noisy(found, seed=0):
    """Return the prediction with equal values side by side, so that there are plateaus."""
    rng = np.random.default_rng(seed)
    changed = dict(found.prediction)
    for site in found.method.predicted:
        values = found.prediction[site].astype(np.float32) + rng.uniform(0, 0.45, (1, *SHAPE))
        changed[site] = (np.round(values * 6) / 9).astype(np.float16)
    return changed


@pytest.mark.parametrize("block_shape", [(10, 13, 15), (3, 40, 9), (10, 40, 44)])
@pytest.mark.parametrize("how", ["value", "otsu"])
@pytest.mark.parametrize("kind", ["pre_post", "post_vector"])
def test_blocks_equal_the_whole(sites, tmp_path, kind, how, block_shape, perfect):
    found = perfect(sites, kind=kind)
    prediction = noisy(found)
    settings = PointSettings(
        pre_threshold=0.3, post_threshold=0.3, threshold_by=how, min_distance=2.0
    )
    (expected,) = found.method.label(prediction, [settings])
    assert len(expected) > len(sites)  # noise has peaks of its own
    path = write(prediction, found.method, tmp_path / "p.zarr")
    work = BlockWork(block_shape, open_store(tmp_path / "blocks", "x"), run_here)
    table = found.method.label_blocks(path, settings, work)
    ((place, values),) = table.parts()
    assert table.shape == expected.shape
    assert np.array_equal(values, expected)
    assert values[place].shape == table.shape


@pytest.mark.parametrize("block_shape", [(2, 7, 9), (6, 20, 24)])
def test_painted_clefts_in_blocks_equal_the_whole(tmp_path, block_shape, build):
    rng = np.random.default_rng(3)
    method = build(kind="cleft", cleft_target="masks")
    values = np.round(rng.uniform(0, 1, (1, 6, 20, 24)) ** 2 * 8) / 8
    prediction = {"cleft": values.astype(np.float16)}
    settings = PointSettings(cleft_threshold=0.75, min_voxels=2)
    (expected,) = method.label(prediction, [settings])
    assert len(expected) > 5
    path = write(prediction, method, tmp_path / "p.zarr")
    work = BlockWork(block_shape, open_store(tmp_path / "blocks", "x"), run_here)
    assert np.array_equal(method.label_blocks(path, settings, work).table, expected)


def test_a_restart_makes_only_the_missing_blocks(sites, tmp_path, perfect):
    found = perfect(sites)
    path = write(found.prediction, found.method, tmp_path / "p.zarr")
    store = open_store(tmp_path / "blocks", "x")
    ran = []

    def run(function, tasks, step):
        ran.extend((function, task.number) for task in tasks)
        return run_here(function, tasks, step)

    work = BlockWork((10, 20, 22), store, run)
    expected = found.method.label_blocks(path, PointSettings(), work).table
    assert len(ran) == 8
    ran.clear()
    store.path("candidates_pre_0.5", 2).unlink()
    assert np.array_equal(found.method.label_blocks(path, PointSettings(), work).table, expected)
    assert ran == [(find_block_candidates, 2)]


def test_small_volumes_are_one_block(build):
    method = build()
    assert method.block_shape((100, 500, 500)) is None
    block = method.block_shape((400, 1500, 1500))
    assert block is not None
    assert np.prod(block) < 2**27

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.filters import threshold_otsu

from instaseg.blockwise.store import open_store
from instaseg.blockwise.work import BlockWork
from instaseg.io.arrays import write_array
from instaseg.io.quantise import quantise
from instaseg.io.stored_heads import StoredHeads
from instaseg.methods.semantic.config import LabelSettings
from instaseg.methods.semantic.decode import CLASSES, COUNTS, classes_of, label_blocks

KEY = "volumes/pred_classes"


def heads_in(folder):
    return StoredHeads(folder / "p.zarr", {"classes": KEY})


def at_once(function, tasks, step):
    assert step in (COUNTS, CLASSES)
    return [function(task) for task in tasks]


def test_two_classes_are_told_apart_by_a_threshold():
    stored = np.float16([[[0.2, 0.5, 0.501, 0.9]]])
    assert classes_of(stored, LabelSettings()).tolist() == [[0, 0, 1, 1]]
    assert classes_of(stored, LabelSettings(threshold=0.1)).tolist() == [[1, 1, 1, 1]]
    assert classes_of(stored, LabelSettings()).dtype == np.uint8


def test_bytes_have_the_same_threshold():
    stored = np.uint8([[[127, 128]]])
    assert classes_of(stored, LabelSettings()).tolist() == [[0, 1]]


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_otsu_is_that_of_the_values(dtype):
    rng = np.random.default_rng(0)
    values = np.clip(np.r_[rng.normal(0.2, 0.05, 300), rng.normal(0.6, 0.1, 100)], 0, 1)
    stored = quantise(values.astype(np.float32).reshape(1, 20, 20), np.dtype(dtype))
    found = classes_of(stored, LabelSettings(threshold="otsu"))
    if dtype == "uint8":
        assert np.array_equal(found, stored[0] > threshold_otsu(stored[0]))
    assert abs(found.mean() - 0.25) < 0.03


def test_several_classes_by_the_greatest_probability():
    stored = np.float16([[[0.2, 0.4]], [[0.5, 0.4]], [[0.3, 0.2]]])
    assert classes_of(stored, LabelSettings()).tolist() == [[1, 0]]


@settings(max_examples=12)
@given(data=st.data())
def test_blocks_give_the_classes_of_the_whole(tmp_path_factory, data):
    ndim = data.draw(st.sampled_from([2, 3]))
    channels = data.draw(st.sampled_from([1, 3]))
    shape = tuple(data.draw(st.integers(1, 9)) for _ in range(ndim))
    block = tuple(data.draw(st.integers(1, 9)) for _ in range(ndim))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    dtype = np.dtype(data.draw(st.sampled_from(["float16", "uint8"])))
    values = rng.random((channels, *shape), dtype=np.float32)
    stored = quantise(values / values.sum(axis=0) if channels > 1 else values, dtype)
    threshold = data.draw(st.sampled_from([0.5, "otsu"])) if channels == 1 else 0.5
    folder = tmp_path_factory.mktemp("blocks")
    write_array(folder / "p.zarr", KEY, stored)
    wanted = LabelSettings(threshold=threshold)
    work = BlockWork(block, open_store(folder / "p.blocks", "x"), at_once)
    found = label_blocks(heads_in(folder), wanted, work)
    classes = np.full(found.shape, 99, np.uint8)
    for place, values in found.parts():
        classes[place] = values
    assert np.array_equal(classes, classes_of(stored, wanted))


def test_finished_blocks_are_not_made_again(tmp_path):
    stored = np.random.default_rng(0).random((1, 8, 8)).astype(np.float16)
    write_array(tmp_path / "p.zarr", KEY, stored)
    done = []

    def counting(function, tasks, step):
        done.extend((step, task.number) for task in tasks)
        return at_once(function, tasks, step)

    store = open_store(tmp_path / "p.blocks", "x")
    work = BlockWork((4, 8), store, counting)
    label_blocks(heads_in(tmp_path), LabelSettings(threshold="otsu"), work)
    assert done == [("counts", 0), ("counts", 1), ("classes", 0), ("classes", 1)]
    store.path(CLASSES, 1).unlink()
    done.clear()
    label_blocks(heads_in(tmp_path), LabelSettings(threshold="otsu"), work)
    assert done == [("classes", 1)]

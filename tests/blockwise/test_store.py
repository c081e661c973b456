"""Results of blocks are whole or missing, and never those of another computation."""

import logging
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.blockwise.store import MADE_FROM, open_store
from instaseg.errors import DataError

ARRAYS = {
    "file": np.arange(6, dtype=np.uint8).reshape(2, 3),
    "none": np.zeros((0, 3), np.int64),
    "flags": np.array([True, False]),
    "scores": np.array([0.25, -1], np.float16),
}


def assert_same(found, wanted):
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_what_is_written_is_read_back(tmp_path):
    store = open_store(tmp_path / "store", "a")
    assert not store.has("rank", 7)
    store.write("rank", 7, ARRAYS)
    assert store.has("rank", 7)
    assert not store.has("rank", 8)
    assert not store.has("pair", 7)
    assert_same(store.read("rank", 7), ARRAYS)
    assert_same(store.read("rank", 7, ["flags"]), {"flags": ARRAYS["flags"]})
    assert [f.name for f in (tmp_path / "store" / "rank").iterdir()] == ["00000007.npz"]
    with np.load(store.path("rank", 7)) as numpys_own:
        np.testing.assert_array_equal(numpys_own["scores"], ARRAYS["scores"])


def test_blocks_may_have_names_and_are_replaced(tmp_path):
    store = open_store(tmp_path, "a")
    store.write("join", "0_1", {"n": np.array(1)})
    store.write("join", "0_1", {"n": np.array(2)})
    assert store.read("join", "0_1")["n"] == 2


def test_results_stay_for_the_same_computation_and_go_with_another(tmp_path, caplog):
    open_store(tmp_path, "a").write("rank", 0, ARRAYS)
    (tmp_path / "rank" / ".x.partial").write_bytes(b"cut off")
    with caplog.at_level(logging.WARNING):
        again = pickle.loads(pickle.dumps(open_store(tmp_path, "a")))
    assert again.has("rank", 0)
    assert not caplog.records
    assert not (tmp_path / "rank" / ".x.partial").exists()
    other = open_store(tmp_path, "b")
    assert not other.has("rank", 0)
    assert "made from other data, parameters or block shapes; they are deleted" in caplog.text
    assert (tmp_path / MADE_FROM).read_text() == "b\n"


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match=r"expected a folder of block results.*Move it away"):
        open_store(tmp_path, "a")
    assert (tmp_path / "thesis.tex").read_text() == "x"


def test_remove_leaves_nothing(tmp_path):
    store = open_store(tmp_path / "store", "a")
    store.write("rank", 0, ARRAYS)
    store.remove()
    assert list(tmp_path.iterdir()) == []
    store.remove()


def test_a_write_that_fails_leaves_nothing(tmp_path):
    store = open_store(tmp_path, "a")
    with pytest.raises(ValueError, match="allow_pickle"):
        store.write("rank", 0, {"names": np.array([{}], object)})
    assert list((tmp_path / "rank").iterdir()) == []
    (tmp_path / "pair").write_text("in the way")
    with pytest.raises(
        DataError, match=r"pair/00000000.npz: cannot write the file: .* MB are free"
    ):
        store.write("pair", 0, ARRAYS)


def test_missing_blocks_and_arrays_are_named(tmp_path):
    store = open_store(tmp_path, "a")
    with pytest.raises(DataError, match=r"no result of step rank for block 3; run"):
        store.read("rank", 3)
    store.write("rank", 3, ARRAYS)
    with pytest.raises(DataError, match=r"expected arrays x; .*x\.npy.* Delete"):
        store.read("rank", 3, ["x"])
    assert store.has("rank", 3)


def test_a_member_before_the_file_is_damage(tmp_path):
    store = open_store(tmp_path, "a")
    store.write("rank", 0, ARRAYS)
    path = store.path("rank", 0)
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\x05\x06")
    offset = slice(end + 16, end + 20)  # where the list of contents begins
    content[offset] = (int.from_bytes(content[offset], "little") + 1000).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        store.read("rank", 0)
    assert not store.has("rank", 0)


@given(st.data())
@settings(max_examples=60)
def test_damage_is_found_and_the_file_made_again(tmp_path_factory, data):
    store = open_store(tmp_path_factory.mktemp("store"), "a")
    store.write("rank", 0, ARRAYS)
    path = store.path("rank", 0)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans(), label="truncated"):
        path.write_bytes(content[:place])
        assert not store.has("rank", 0)
    else:
        content[place] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
    try:
        found = store.read("rank", 0)
    except DataError:
        assert not store.has("rank", 0)
        return
    # What no checksum covers: dates, or a name in the list of contents.
    wanted = {name: array for name, array in ARRAYS.items() if name in found}
    assert_same({name: found[name] for name in wanted}, wanted)

"""Codes of a volume on disk, decoded where they are needed: block by block equals whole."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from instaseg.blockwise.store import open_store
from instaseg.blockwise.work import BlockWork
from instaseg.data.config import DataSettings
from instaseg.geometry import Box
from instaseg.io.arrays import write_array
from instaseg.io.stored_heads import StoredHeads
from instaseg.methods.build import MethodSpec
from instaseg.methods.patches import patch_targets
from instaseg.methods.patches.config import LabelSettings, PatchesSettings
from instaseg.methods.patches.stored import StoredPatches
from instaseg.models.config import ModelSettings

PATCH = (3, 3, 3)


@dataclass(frozen=True)
class Unpacked:
    """The decoder of codes that have the 27 voxels of a patch as digits of 8 numbers."""

    def __call__(self, codes):
        numbers = np.rint(codes.astype(np.float64) * 15).astype(np.int64)
        digits = (numbers[:, np.newaxis] >> np.arange(4)[:, np.newaxis]) & 1
        return digits.reshape(32, -1)[:27].astype(np.float32) * 0.8 + 0.1


def packed(patches):
    """Return the codes (8, z, y, x) of patches (27, z, y, x), what :class:`Unpacked` undoes."""
    digits = np.zeros((32, *patches.shape[1:]), np.float32)
    digits[:27] = patches
    weights = np.array([1, 2, 4, 8], np.float32).reshape(1, 4, 1, 1, 1)
    numbers = (digits.reshape(8, 4, *patches.shape[1:]) * weights).sum(axis=1)
    return (numbers / 15).astype(np.float16)


def crossing_tubes(seed, shape):
    """Return the heads of two tubes that cross, stored as they are predicted, some of it wrong."""
    rng = np.random.default_rng(seed)
    tubes = np.zeros((2, *shape), bool)
    at = [int(rng.integers(2, n - 3)) for n in shape]
    tubes[0, at[0] : at[0] + 2, at[1] : at[1] + 2, 1:-1] = True
    tubes[1, at[0] : at[0] + 2, 1:-1, at[2] : at[2] + 2] = True
    patches = patch_targets(tubes.astype(np.uint8), PATCH, ndim=3)
    patches ^= rng.random(patches.shape) < 0.02
    number = tubes.sum(axis=0)
    counts = np.stack([number == n for n in range(3)]) * np.float16(0.9) + np.float16(0.03)
    return {"code": packed(patches), "numinst": counts.astype(np.float16)}


def method():
    code = {"decoder_fmaps": [8], "code_units": 8}
    chosen = PatchesSettings(patch_shape=PATCH, prediction="codes", foreground="count", code=code)
    return MethodSpec(chosen, ModelSettings(), DataSettings(ndim=3)).build()


def run_here(function, tasks, description):
    del description
    return [function(task) for task in tasks]


CASES = [
    {"output": "packed", "thin_out": "greedy", "partition": "mutex"},
    {"output": "one_per_channel", "fg_threshold": 0.5},
    {"paint": "foreground", "partition": "mutex"},
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
@settings(max_examples=4, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(data=st.data())
def test_codes_decoded_in_blocks_give_the_labels_of_the_whole(case, data):
    shape = [data.draw(st.integers(8, 14)) for _ in range(3)]
    block_shape = tuple(data.draw(st.integers(4, side)) for side in shape)
    heads = crossing_tubes(data.draw(st.integers(0, 99)), shape)
    of_codes, chosen = method(), LabelSettings(**case)
    (expected,) = of_codes.label(heads, [chosen], decode=Unpacked())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prediction.zarr"
        for head in of_codes.heads:
            write_array(path, head.key, heads[head.name])
        store = open_store(Path(folder) / "blocks", "made from this")
        work = BlockWork(block_shape, store, run_here)
        found = of_codes.label_blocks(path, chosen, work, decode=Unpacked())
        labels = np.zeros(found.shape, np.int32)
        for place, values in found.parts():
            labels[place] = values
    assert expected.any()
    np.testing.assert_array_equal(labels, expected)


def test_bytes_are_foreground_in_blocks_where_they_are_in_the_whole(tmp_path):
    """51 / 255 is not above 0.2, though 51 times the single number nearest 1 / 255 is."""
    values = np.full((9, 8, 8), 51, np.uint8)
    values[:, 2:6, 2:6] = 200
    chosen = PatchesSettings(patch_shape=(3, 3), foreground="centre", border="cut")
    centres = MethodSpec(chosen, ModelSettings(), DataSettings()).build()
    write_array(tmp_path / "p.zarr", centres.heads[0].key, values)
    label = LabelSettings(fg_threshold=0.2, patch_threshold=0.1)
    (expected,) = centres.label({"affs": values}, [label])
    work = BlockWork((5, 5), open_store(tmp_path / "blocks", "made from this"), run_here)
    found = centres.label_blocks(tmp_path / "p.zarr", label, work)
    labels = np.zeros(found.shape, np.int32)
    for place, part in found.parts():
        labels[place] = part
    np.testing.assert_array_equal(labels, expected)
    assert labels[0, 0] == 0


def test_only_wanted_patches_are_decoded(tmp_path):
    heads = crossing_tubes(0, (8, 9, 10))
    write_array(tmp_path / "p.zarr", "code", heads["code"])
    decoded = []

    def decode(codes):
        decoded.append(codes.shape)
        return Unpacked()(codes)

    source = StoredPatches(StoredHeads(tmp_path / "p.zarr", {"code": "code"}), 3, 27, decode)
    box = Box((1, 2, 3), (6, 8, 9))
    centres = np.zeros(box.shape, bool)
    centres[1, 2, 3] = centres[4, 5, 5] = True
    found = source.affinities(box, centres)
    assert decoded == [(8, 2)]
    wanted = Unpacked()(heads["code"][:, [2, 5], [4, 7], [6, 8]])
    np.testing.assert_allclose(found[:, centres].astype(float), wanted, atol=1e-3)
    assert not found[:, ~centres].any()

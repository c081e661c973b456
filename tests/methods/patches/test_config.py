"""Tables of the method: shapes, refusals, removed keys, and that they import without numba."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from instaseg.methods.patches.config import REMOVED_KEYS, LabelSettings, PatchesSettings


def test_flat_patch_shape_is_2d():
    assert PatchesSettings(patch_shape=[1, 25, 25]).patch_shape == (25, 25)


@pytest.mark.parametrize("shape", [[4, 5], [5], [5, -1], [1, 1]])
def test_bad_patch_shape(shape):
    with pytest.raises(ValidationError, match="must be two or three odd sides in voxels"):
        PatchesSettings(patch_shape=shape)


def test_threshold_of_one_is_refused():
    with pytest.raises(ValidationError, match="less than 1"):
        LabelSettings(patch_threshold=1.0)


@pytest.mark.parametrize("table", [PatchesSettings, LabelSettings])
def test_every_field_is_described(table):
    assert all(field.description for field in table.model_fields.values())


def test_removed_keys_are_gone():
    assert not set(REMOVED_KEYS) & set(LabelSettings.model_fields)
    assert {"cuda", "mws", "vi_bg_use_inv_th", "includeSinglePatchCCS"} <= set(REMOVED_KEYS)


def test_config_imports_without_kernels():
    code = (
        "import sys, instaseg.methods.patches.config as c;"
        "assert not {'numba', 'torch', 'skimage'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

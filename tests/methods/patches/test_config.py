"""Tables of the method: shapes, refusals, removed keys, and that they import without numba."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from instaseg.methods.patches.config import (
    REMOVED_KEYS,
    LabelSettings,
    PatchesSettings,
    disagreements,
)
from instaseg.models.config import CodeSettings


def test_flat_patch_shape_is_2d():
    assert PatchesSettings(patch_shape=[1, 25, 25]).patch_shape == (25, 25)


@pytest.mark.parametrize("shape", [[4, 5], [5], [5, -1]])
def test_bad_patch_shape(shape):
    with pytest.raises(ValidationError, match="must be two or three odd sides in voxels"):
        PatchesSettings(patch_shape=shape)


@pytest.mark.parametrize("shape", [[1, 1], [1, 257]])
def test_sides_that_are_too_short_or_too_long(shape):
    with pytest.raises(ValidationError, match="must have a side of 3 voxels or more, and none abo"):
        PatchesSettings(patch_shape=shape)


def test_keys_about_counts_need_a_count():
    tables = {
        "method": PatchesSettings(patch_shape=(5, 5), max_num_inst=3),
        "vote_instances": LabelSettings(overlap_threshold=0.2),
    }
    messages = dict(disagreements(tables))
    assert "foreground = 'head', which does not count" in messages["method", "max_num_inst"]
    assert "got 0.2; remove it" in messages["vote_instances", "overlap_threshold"]
    counting = PatchesSettings(patch_shape=(5, 5), foreground="count", max_num_inst=3)
    assert not list(disagreements({**tables, "method": counting}))


def test_code_units_that_do_not_factor_get_the_nearest():
    """41 is halved to 21, 11, 6: codes are multiples of 36."""
    with pytest.raises(ValidationError) as error:
        PatchesSettings(patch_shape=[41, 41], prediction="codes")
    assert (
        "[code] code_units must be a multiple of 36, because 3 steps (decoder_fmaps) to patch_shape"
        " [41, 41] begin at [6, 6] voxels; got 256. The nearest that fit: 252 or 288"
    ) in str(error.value)
    assert PatchesSettings(patch_shape=[41, 41]).prediction == "patches"
    fitting = {"code_units": 252, "autoencoder_chkpt": "a.pt"}
    assert PatchesSettings(patch_shape=[41, 41], prediction="codes", code=fitting).code.steps == 3


def test_a_code_has_no_centre():
    with pytest.raises(ValidationError, match='foreground must be "head" or "count" where predic'):
        PatchesSettings(patch_shape=[25, 25], prediction="codes", foreground="centre")


def test_threshold_of_one_is_refused():
    with pytest.raises(ValidationError, match="less than 1"):
        LabelSettings(patch_threshold=1.0)


@pytest.mark.parametrize("table", [PatchesSettings, CodeSettings, LabelSettings])
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

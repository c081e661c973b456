"""Channels through the command line: labelled in blocks as they are at once."""

import numpy as np
import pytest

from instaseg.cli import main
from instaseg.io.arrays import open_array, write_array
from instaseg.io.samples import read_whole

SETUP = """
[method]
name = "channels"
channels = ["foreground", "contour", "distance"]
context = [8]

[data]
train_data = "data"
test_data = "data"
voxel_size = [2.0, 1.0]

[general]
device = "cpu"

[model]
num_fmaps = 4
downsample_factors = [[2, 2]]
padding = "same"
normalization = "batch"
train_input_shape = [32, 32]
test_input_shape = [48, 64]

[training]
batch_size = 2
max_iterations = 20
checkpoints = 20
snapshots = 0
log_step = 10
val_log_step = 0
num_workers = 0
weight_averaging = 0

[optimizer]
lr = 2e-2

[vote_instances]
seed_foreground = "otsu"
mask_foreground = "otsu_half"
seed_contour = "otsu"
seed_distance = "otsu"
seed_steps = ["dilate"]
seed_radii = [2.0]
min_object = 4.0
"""


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Return an experiment with the instances of one image, and its working folder."""
    folder = tmp_path_factory.mktemp("work")
    random = np.random.default_rng(0)
    labels = np.zeros((48, 64), np.int32)
    for number, (y, x) in enumerate(np.ndindex(4, 5), start=1):
        labels[12 * y + 1 : 12 * y + 10, 12 * x + 2 : 12 * x + 13] = number
    image = (labels > 0) * 90 + random.integers(0, 90, labels.shape)
    write_array(folder / "data" / "x" / "a.tif", "", image.astype(np.uint8))
    write_array(folder / "data" / "y" / "a.tif", "", labels.astype(np.uint16))
    (folder / "default.toml").write_text(SETUP)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["--do", "train", "predict", "label", "--test-checkpoint", "last"]
        assert main(["--config", "default.toml", "--root", "runs", *words]) == 0
    (found,) = (folder / "runs").iterdir()
    return found


def test_blocks_from_the_command_line_give_the_same(experiment, monkeypatch, capsys):
    monkeypatch.chdir(experiment.parents[1])
    (result,) = experiment.glob("test/instances/*/*/*.zarr")
    whole = read_whole(open_array(result, "vote_instances"))
    assert whole.max() > 3
    words = ["--do", "label", "--overwrite", "--test-checkpoint", "last"]
    words += ["-id", str(experiment), "--set", "general.block_shape=[20, 25]"]
    assert main(["--config", "default.toml", *words]) == 0
    assert "in blocks of [20, 25] voxels" in capsys.readouterr().err
    assert (read_whole(open_array(result, "vote_instances")) == whole).all()
    assert not list(result.parent.glob("*.blocks"))


@pytest.mark.parametrize("stages", [["label"], ["train", "predict", "label"]])
def test_what_needs_the_whole_is_refused_before_work(experiment, monkeypatch, capsys, stages):
    monkeypatch.chdir(experiment.parents[1])
    words = ["--do", *stages, "--test-checkpoint", "last", "-id", str(experiment)]
    words += ["--set", 'vote_instances.check_files="write"']
    command = ["--config", "default.toml", *words, "--dry-run"]
    assert main(command) == 0
    assert main([*command, "--set", "general.block_shape=[48, 64]"]) == 0  # all of it in one
    capsys.readouterr()
    assert main([*command, "--set", "general.block_shape=[20, 25]"]) == 2
    told = capsys.readouterr().err
    assert 'expected "none" where a volume is labelled in blocks, found "write"' in told
    assert "(sample a, [48, 64], in blocks of [20, 25])" in told


def test_every_swept_value_has_to_suit_blocks(experiment, monkeypatch, capsys):
    monkeypatch.chdir(experiment.parents[1])
    command = ["--config", "default.toml", "--do", "validate", "label", "-id", str(experiment)]
    command += ["--test-checkpoint", "last", "--dry-run"]
    for value in (
        'data.val_data="data"',
        "general.block_shape=[20, 25]",
        'validation.params_product=["check_files"]',
        'validation.check_files=["none", "write"]',
    ):
        command += ["--set", value]
    assert main(command) == 2
    assert "in blocks of [20, 25]" in capsys.readouterr().err

"""Both networks through the command line: trained, validated, labelled (in blocks too), scored."""

import numpy as np
import pytest

from instaseg.io.arrays import open_array
from instaseg.io.samples import read_whole
from instaseg.training.checkpoints import list_checkpoints, load_checkpoint

COMMON = """
[data]
train_data = "DATA/train"
val_data = "DATA/val"
test_data = "DATA/test"

[general]
device = "cpu"

[model]
num_fmaps = 2
downsample_factors = [[4, 4], [4, 4]]
num_repetitions = 1
padding = "same"
normalization = "batch"
train_input_shape = [32, 32]
test_input_shape = [160, 160]

[training]
batch_size = 2
checkpoints = 100
snapshots = 4
val_log_step = 4
val_batches = 1
num_workers = 0
weight_averaging = 0.5
"""
SHARED = """
[method]
name = "deep_watershed"
edges = [0.5, 1.2, 2.5]

[validation]
params_product = ["cut", "fg_threshold"]
cut = [0.6, 1.3]
fg_threshold = [0.3, 0.4]
"""
STAGES = """
[method]
name = "deep_watershed"
network = "stages"
edges = [0.5, 1.2, 2.5]
wall_width = 3
depth = "classes"
losses = "published"

[training.phases]
names = ["semantic", "directions", "energy", "joint"]
shares = [1, 1, 1, 1]
train = [["foreground"], ["directions"], ["depth"], ["directions", "depth"]]
losses = [["foreground"], ["directions"], ["depth"], ["depth"]]
truth = [[], ["classes"], ["directions"], []]

[vote_instances]
neighbours = "all"
grow = "dilate"
fg_threshold = 0.3
"""


@pytest.fixture(scope="module")
def run(command_line, workspace, tmp_path_factory):
    """Return a function that trains with a configuration and does some stages."""
    folder = tmp_path_factory.mktemp("watershed")

    def train(name, text, *stages):
        file = folder / f"{name}.toml"
        file.write_text((text + COMMON).replace("DATA", str(workspace / "data")))
        done = command_line(
            *("--app", "tiny", "--setup", "setup01", "--config", file, "--root", folder / name),
            *("--do", "train", *stages, "--set", "training.max_iterations=8"),
        )
        assert done.code == 0, done.err
        return done.experiment

    return train


@pytest.fixture(scope="module")
def shared(run):
    return run("shared", SHARED, "validate_checkpoints", "predict", "label", "evaluate")


def labels_of(experiment):
    files = sorted(experiment.glob("test/instances/*/*/*.zarr"))
    return [read_whole(open_array(file, "vote_instances")) for file in files]


def test_shared_network(shared):
    assert list_checkpoints(shared / "train" / "checkpoints") == [8]
    assert (shared / "val" / "best.toml").exists()
    assert [labels.shape for labels in labels_of(shared)] == [(96, 96)] * 3
    assert list(shared.glob("test/evaluated/*/*/summary.csv"))


def test_blocks_give_the_same_labels(shared, command_line):
    whole = labels_of(shared)
    blocks = ("--overwrite", "--set", "general.block_shape=[40, 50]")
    done = command_line("-id", shared, "--do", "label", *blocks)
    assert done.code == 0, done.err
    assert "in blocks of [40, 50] voxels" in done.err
    assert all(np.array_equal(a, b) for a, b in zip(whole, labels_of(shared), strict=True))


def test_networks_in_a_row_are_trained_in_phases(run):
    experiment = run("stages", STAGES, "predict", "label")
    folder = experiment / "train" / "checkpoints"
    assert list_checkpoints(folder) == [2, 4, 6, 8]
    phases = [load_checkpoint(folder, number).phase["name"] for number in (2, 4, 6, 8)]
    assert phases == ["semantic", "directions", "energy", "joint"]
    assert len(labels_of(experiment)) == 3
    assert (experiment / "train" / "snapshots" / "00000004.zarr").exists()

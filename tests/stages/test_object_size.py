"""Images resized to a common size of objects, through the command line."""

import tomllib

import numpy as np
import pytest

from instaseg.io.arrays import array_attributes, open_array
from instaseg.io.samples import read_whole

TARGET = ("--set", "data.object_size.target=8")
SHORT = (
    *("--set", "training.max_iterations=4", "--set", "training.checkpoints=4"),
    *("--set", "validation.patch_threshold=[0.5]", "--set", "validation.fg_threshold=[0.4]"),
)


@pytest.fixture(scope="module")
def trained(command_line, tmp_path_factory):
    """Return an experiment trained at another size of objects, validated and predicted."""
    root = tmp_path_factory.mktemp("sized")
    stages = ("train", "validate_checkpoints", "predict", "label", "evaluate")
    done = command_line("--app", "tiny", "--root", root, "--do", *stages, *TARGET, *SHORT)
    assert done.code == 0, done.err
    assert "objects of" in done.err
    return done.experiment


def arrays(experiment, name="2227fd"):
    (prediction,) = (experiment / "test" / "predicted" / "4").glob(f"{name}.zarr")
    (instances,) = (experiment / "test" / "instances" / "4").glob(f"*/{name}.zarr")
    return prediction, instances


def test_instances_come_back_at_the_size_of_the_image(trained):
    prediction, instances = arrays(trained)
    labels = read_whole(open_array(instances, "vote_instances"))
    assert labels.shape == (96, 96)
    attributes = array_attributes(prediction, "volumes/pred_fgbg")
    assert list(attributes["image_shape"]) == [96, 96]
    foreground = open_array(prediction, "volumes/pred_fgbg")
    assert foreground.shape[1:] != (100, 100)  # the image's with the margin of a patch
    config = tomllib.loads((trained / "config.toml").read_text())
    assert config["data"]["object_size"]["target"] == 8


def test_blocks_give_the_same_labels(trained, run):
    _, path = arrays(trained)
    whole = read_whole(open_array(path, "vote_instances"))
    again = ("--do", "label", "-id", trained, "--overwrite", "--sample", "2227fd")
    done = run(*again, "--set", "general.block_shape=[16, 16]")
    assert done.code == 0, done.err
    assert "in blocks of" in done.err
    found = read_whole(open_array(path, "vote_instances"))
    pairs = np.unique(np.stack([whole.ravel(), found.ravel()]), axis=1)
    assert found.shape == (96, 96)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


def test_a_given_diameter_makes_new_predictions(trained, run):
    prediction, _ = arrays(trained)
    before = open_array(prediction, "volumes/pred_fgbg").shape
    given = ("--set", "data.object_size.diameter=16", "--sample", "2227fd")
    refused = run("--do", "label", "-id", trained, *given)
    assert refused.code == 1
    assert "run predict first" in refused.err
    done = run("--do", "predict", "label", "evaluate", "-id", trained, *given)
    assert done.code == 0, done.err
    # Halved, and two voxels of margin on each side.
    assert open_array(prediction, "volumes/pred_fgbg").shape == (1, 52, 52) != before
    again = run("--do", "predict", "-id", trained, *given)
    assert "1 of 1 samples of test done, skipped" in again.err


def test_networks_trained_at_any_size_are_refused(experiment, run):
    refused = run("--do", "predict", "-id", experiment, *TARGET)
    assert refused.code == 1
    assert "expected a network trained on resized images" in refused.err

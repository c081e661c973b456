"""Classes of instances through the command line, on crops of real nuclei: small and large ones."""

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile

from instaseg.cli import main
from instaseg.io.arrays import open_array, write_array
from instaseg.io.samples import read_whole

DATA = Path(__file__).parents[1] / "experiments" / "dsb2018" / "data"
LARGE = 200
"""Pixels above which a nucleus is of class 2."""

SETUP = """
[method]
name = "{method}"

[method.instance_classes]
count = 2

[data]
train_data = "data/train"
val_data = "data/val"
test_data = "data/test"
label_channels = "labels_and_classes"

[general]
device = "cpu"

[model]
num_fmaps = 6
downsample_factors = [[2, 2]]
padding = "same"
normalization = "batch"
train_input_shape = [48, 48]
test_input_shape = [64, 64]

[training]
batch_size = 4
max_iterations = {iterations}
checkpoints = {iterations}
snapshots = 0
val_log_step = 10
val_batches = 1
num_workers = 0
weight_averaging = 0

[optimizer]
lr = 2e-2

[visualize]
max_samples = 1

[evaluation]
summary = ["confusion_matrix.avS", "classes.accuracy", "classes.mean.fscore", "classes.2.AP_TP"]
"""


def read(path, key):
    return read_whole(open_array(path, key))


def classes_of(labels):
    """Return class 2 for large nuclei, 1 for small ones, 0 for the background."""
    large = np.bincount(labels.ravel()) > LARGE
    return np.where(labels > 0, 1 + large[labels], 0).astype(labels.dtype)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Return a folder with crops of real nuclei and their classes, in BiaPy's layout."""
    folder = tmp_path_factory.mktemp("classes")
    for role, count in {"train": 4, "val": 1, "test": 2}.items():
        for image in sorted((DATA / role / "x").glob("*.tif"))[:count]:
            labels = read(DATA / role / "y" / image.name, "")
            both = np.stack([labels, classes_of(labels)])[:, :96, :96]
            target = folder / "data" / role
            write_array(target / "x" / image.name, "", read(image, "")[:96, :96])
            (target / "y").mkdir(exist_ok=True)
            tifffile.imwrite(target / "y" / image.name, both)
    return folder


def run(workspace, root, *arguments, method="channels", iterations=60):
    (workspace / "default.toml").write_text(SETUP.format(method=method, iterations=iterations))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        return main(["--config", "default.toml", "--root", str(root), *map(str, arguments)])


@pytest.fixture(scope="module")
def experiment(workspace, tmp_path_factory):
    """Return the experiment of one run of everything; tests may add to it."""
    root = tmp_path_factory.mktemp("root")
    assert run(workspace, root, "--do", "all", "export") == 0
    (found,) = root.iterdir()
    return found


def summary_of(experiment):
    (summary,) = experiment.glob("test/evaluated/60/*/summary.csv")
    rows = csv.DictReader(summary.read_text().splitlines())
    return {row["sample"]: row for row in rows}


def test_classes_are_learnt_voted_and_scored(experiment):
    rows = summary_of(experiment)
    assert float(rows["pooled"]["classes.accuracy"]) > 0.6
    assert 0 < float(rows["pooled"]["classes.mean.fscore"]) <= 1
    baseline = experiment / "test/evaluated/baseline_otsu/summary.csv"
    (first, *_) = csv.DictReader(baseline.read_text().splitlines())
    assert first["classes.accuracy"] == "nan"


def test_the_loss_of_classes_falls(experiment):
    with (experiment / "train/logs/log.csv").open() as file:
        losses = [float(row["loss_instance_classes"]) for row in csv.DictReader(file)]
    assert losses[-1] < losses[0]


def test_every_instance_has_a_class_in_table_and_image(experiment):
    path = next(experiment.glob("test/instances/60/*/*.zarr"))
    labels = read(path, "instances")
    exported = experiment / "test/export"
    image = tifffile.imread(exported / f"{path.stem}_classes.tif")
    table = csv.DictReader((exported / f"{path.stem}_classes.csv").read_text().splitlines())
    rows = {int(row["label"]): row for row in table}
    assert sorted(rows) == np.unique(labels[labels > 0]).tolist()
    for label, row in rows.items():
        assert np.unique(image[labels == label]).tolist() == [int(row["class"])]
        assert 0.5 <= float(row["share"]) <= 1
    assert (image[labels == 0] == 0).all()


def test_finished_votes_are_kept_and_blocks_vote_alike(workspace, experiment, capsys):
    path = next(experiment.glob("test/instances/60/*/*.zarr"))
    before = read(path, "instances_classes")
    assert run(workspace, experiment.parent, "-id", experiment, "--do", "classify") == 0
    assert "classify: 2 of 2 samples done, skipped" in capsys.readouterr().err
    blocks = ("--set", "general.block_shape=[40, 50]", "--overwrite", "--workers", 2)
    assert run(workspace, experiment.parent, "-id", experiment, "--do", "classify", *blocks) == 0
    assert read(path, "instances_classes").tolist() == before.tolist()


def test_other_instances_have_to_vote_before_they_are_scored(workspace, experiment, capsys):
    words = ("--do", "label", "postprocess", "evaluate", "--set", "vote_instances.seed_contour=0.3")
    assert run(workspace, experiment.parent, "-id", experiment, *words) == 1
    assert "run classify first" in capsys.readouterr().err
    words = ("--do", "classify", "evaluate", "status", *words[4:])
    assert run(workspace, experiment.parent, "-id", experiment, *words) == 0
    assert "classify              done" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["patches", "deep_watershed"])
def test_other_methods_have_classes_too(workspace, tmp_path, method):
    shape = ("--set", "method.patch_shape=[5, 5]") if method == "patches" else ()
    assert run(workspace, tmp_path, "--do", "all", *shape, method=method, iterations=3) == 0
    (found,) = tmp_path.iterdir()
    path = next(found.glob("test/instances/3/*/*.zarr"))
    assert read(path, "instances_classes").shape[1] == 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("method.instance_classes.count=1",), "[method.instance_classes] count: must be 0 or"),
        (("method.instance_classes.count=0",), "'classes.accuracy' is a score by class, but"),
        (("method.instance_classes.class_weights=[1]",), "must have one number per class"),
        (("method.instance_classes.count=3", "data.label_channels=labels"), "shape (2, 96, 96)"),
        (("evaluation.metric=classes.3.S",), "instances have 2 classes"),
    ],
)
def test_what_does_not_fit_is_told_before_work(workspace, tmp_path, capsys, values, message):
    sets = [word for value in values for word in ("--set", value)]
    assert run(workspace, tmp_path, "--do", "train", *sets) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_classes_beyond_the_number_and_missing_ones_are_told(workspace, tmp_path, capsys):
    image = sorted((workspace / "data/test/x").iterdir())[0].name
    labels = read(workspace / "data/test/y" / image, "")[0]
    for role in ("train", "val"):
        write_array(tmp_path / f"{role}/a.zarr", "volumes/raw", labels)
        write_array(tmp_path / f"{role}/a.zarr", "volumes/gt_labels", labels)
    write_array(tmp_path / "train/a.zarr", "volumes/gt_classes", np.minimum(labels, 3))
    data = ("--train-data", tmp_path / "train", "--val-data", tmp_path / "val")
    assert run(workspace, tmp_path / "runs", "--do", "train", *data) == 2
    error = capsys.readouterr().err
    assert "classes of instances have the value 3; expected 1 to 2" in error
    assert "has no classes of its instances; expected an array 'volumes/gt_classes'" in error


def test_published_networks_have_no_classes(workspace, tmp_path, capsys):
    words = ("--do", "train", "--set", "method.network=stages")
    assert run(workspace, tmp_path, *words, method="deep_watershed") == 2
    assert 'network must be "shared"' in capsys.readouterr().err

"""Semantic segmentation through the command line, on crops of real nuclei and on bad input."""

import csv
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from instaseg.cli import main
from instaseg.io.arrays import open_array, write_array
from instaseg.io.samples import read_whole

DATA = Path(__file__).parents[1] / "experiments" / "dsb2018" / "data"

SETUP = """
[method]
name = "semantic"
objects = "instances"
dice_weight = 1.0

[data]
train_data = "data/train"
val_data = "data/val"
test_data = "data/test"

[general]
device = "cpu"

[model]
num_fmaps = 4
downsample_factors = [[2, 2]]
padding = "same"
normalization = "batch"
train_input_shape = [32, 48]
test_input_shape = [64, 64]

[training]
batch_size = 2
max_iterations = 20
checkpoints = 20
snapshots = 0
val_log_step = 10
val_batches = 1
log_step = 5
num_workers = 0
weight_averaging = 0

[training.sampling]
probability_random = 0.0
probability_fg = 0.94
probability_bg = 0.06

[optimizer]
lr = 2e-2

[validation]
params_product = ["threshold"]
threshold = [0.5, "otsu"]

[visualize]
max_samples = 1
crops = 2
"""


def read(path, key):
    return read_whole(open_array(path, key))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Return a folder with small crops of real nuclei and a configuration; nothing changes it."""
    folder = tmp_path_factory.mktemp("semantic")
    for role, count in {"train": 2, "val": 1, "test": 2}.items():
        for image in sorted((DATA / role / "x").glob("*.tif"))[:count]:
            for kind in ("x", "y"):
                values = read(DATA / role / kind / image.name, "")[:64, :64]
                write_array(folder / "data" / role / kind / image.name, "", values)
    (folder / "default.toml").write_text(SETUP)
    return folder


@pytest.fixture(scope="module")
def experiment(workspace, tmp_path_factory):
    """Return the experiment of one run of everything; no test changes it."""
    root = tmp_path_factory.mktemp("root")
    words = ("--do", "all", "sample_pictures", "export", "--set", "vote_instances.output=both")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        code = main(["--config", "default.toml", "--root", str(root), *words])
    assert code == 0
    (found,) = root.iterdir()
    return found


@pytest.fixture
def run(workspace, tmp_path, monkeypatch, capsys):
    """Return a function that runs the command line with the configuration and other values."""
    monkeypatch.chdir(workspace)

    def run_here(*arguments, root=tmp_path):
        capsys.readouterr()
        code = main(["--config", "default.toml", "--root", str(root), *map(str, arguments)])
        return code, capsys.readouterr()

    return run_here


def test_classes_are_found_and_scored(experiment):
    results = sorted(experiment.glob("test/instances/20/*/*.zarr"))
    assert len(results) == 2
    for path in results:
        classes = read(path, "classes")
        assert (classes.shape, classes.dtype) == ((64, 64), np.uint8)
        assert set(np.unique(classes)) <= {0, 1}
    (summary,) = experiment.glob("test/evaluated/20/*/summary.csv")
    rows = {row["sample"]: row for row in csv.DictReader(summary.read_text().splitlines())}
    assert len(rows) == 4
    assert float(rows["mean"]["general.foreground_iou"]) > 0.4
    file = next(path for path in summary.parent.glob("*.toml"))
    scores = tomllib.loads(file.read_text())
    cells = [n for row in scores["confusion_matrix"].values() for n in row.values()]
    assert sum(cells) == scores["general"]["voxels"] == 64 * 64
    assert (experiment / "test/evaluated/baseline_otsu/summary.csv").is_file()


def test_training_logs_the_error_of_crops(experiment):
    with (experiment / "train/logs/log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"loss_ce", "loss_dice", "loss_iou_error", "validation_loss_iou_error"} <= set(rows[0])
    assert 0 <= float(rows[-1]["loss_iou_error"]) < float(rows[0]["loss_iou_error"]) <= 1


def test_report_shows_colours_and_scores(experiment):
    page = (experiment / "report/index.html").read_text()
    assert "IoU of every class" in page
    pictures = re.findall(r'src="([^"]+png)"', page)
    assert {"loss.png", "scores.png"} < set(pictures)
    assert all((experiment / "report" / name).is_file() for name in pictures)


def test_pictures_of_crops_are_drawn(experiment):
    names = [path.name for path in sorted((experiment / "report/crops").iterdir())]
    assert [name[:4] for name in names] == ["000_", "001_"]


def test_export_writes_classes_and_probabilities(experiment):
    files = sorted((experiment / "test/export").iterdir())
    assert len(files) == 4
    for classes, probabilities in zip(files[::2], files[1::2], strict=True):
        assert probabilities.name == f"{classes.stem}_probabilities.tif"
        values = tifffile.imread(probabilities)
        assert values.dtype == np.float32
        assert values.reshape(64, 64).max() <= 1
        assert tifffile.imread(classes).dtype == np.uint8


def test_blocks_give_the_same_classes(experiment, run):
    (whole,) = {path.parent for path in experiment.glob("test/instances/20/*/*.zarr")}
    before = {path.name: read(path, "classes") for path in whole.iterdir()}
    words = ("--do", "label", "postprocess", "-id", experiment, "--overwrite")
    code, printed = run(*words, "--set", "general.block_shape=[20,30]", "--test_on_train")
    assert code == 1  # nothing was predicted there
    code, printed = run(*words, "--set", "general.block_shape=[20,30]")
    assert code == 0, printed.err
    assert "in blocks of [20, 30] voxels" in printed.err
    assert "postprocess: skipped, classes have no instances to repair" in printed.out
    assert all(np.array_equal(read(whole / name, "classes"), old) for name, old in before.items())
    assert not list(whole.glob("*.blocks"))


def test_images_resized_by_their_objects_give_classes_of_their_own_size(run, tmp_path):
    stages = ("train", "predict", "label", "evaluate", "export")
    sizes = ("--set", "data.object_size.target=8", "--set", "training.max_iterations=4")
    both = ("--set", "vote_instances.output=both", "--set", "training.checkpoints=4")
    code, printed = run("--do", *stages, *sizes, *both)
    assert code == 0, printed.err
    assert "objects of" in printed.err
    (first, _) = sorted(tmp_path.glob("*/test/predicted/4/*.zarr"))
    assert open_array(first, "volumes/pred_classes").shape[1:] != (64, 64)
    (experiment,) = tmp_path.iterdir()
    for path in experiment.glob("test/instances/4/*/*.zarr"):
        assert read(path, "classes").shape == (64, 64)
    pictures = sorted(experiment.glob("test/export/*.tif"))
    assert len(pictures) == 4
    for path in pictures:
        assert tifffile.imread(path).shape[-2:] == (64, 64)


def test_finished_work_is_skipped(experiment, run):
    code, printed = run("--do", "label", "evaluate", "status", "-id", experiment)
    assert code == 0, printed.err
    assert "label: 2 of 2 samples done, skipped" in printed.err
    assert re.search(r"label +done +2 of 2", printed.out)


def test_predictions_alone_can_choose(experiment, run):
    code, printed = run(
        *("--do", "validate_checkpoints", "-id", experiment),
        *("--set", "validation.prediction_only=true"),
        *("--set", "validation.prediction_metric=calibration.agreement"),
    )
    assert code == 0, printed.err
    assert "calibration.agreement" in printed.out


BAD = [
    (
        "method.objects=classes",
        ["mask has the value ", "expected classes 0 to 1 (or 0 and 255)", "objects = "],
    ),
    (
        'evaluation.metric="confusion_matrix.avS"',
        ["metric must name a score of classes; got 'confusion_matrix.avS'"],
    ),
    (
        'evaluation.metric="classes.2.iou"',
        ["metric: must name a score of classes 0 to 1 (method.num_classes = 2)"],
    ),
    (
        "training.augmentation.overlay.probability=0.5",
        ["crops laid over each other need instances as ground truth"],
    ),
    (
        "postprocessing.remove_small_comps=5",
        ["[postprocessing] remove_small_comps: repairs instances, but the method 'semantic' gives"],
    ),
    ("method.num_classes=3", ['num_classes must be 2 where objects = "instances"']),
    ("vote_instances.threshold=2.0", ["[vote_instances] threshold: must be"]),
    ('vote_instances.output="packed"', ["[vote_instances] output: must be"]),
    ("training.sampling.probability_bg=0.5", ["must sum to 1; got 0.0 + 0.94 + 0.5 + 0.0"]),
    ("data.ndim=3", ["because data.ndim = 3"]),
]


@pytest.mark.parametrize(("value", "messages"), BAD)
def test_bad_input_is_told_before_any_work(run, tmp_path, value, messages):
    code, printed = run("--do", "train", "--set", value)
    assert code == 2
    for message in messages:
        assert message in printed.err
    assert not list(tmp_path.rglob("*.pt"))


def test_masks_of_another_shape_are_told(run, workspace, tmp_path):
    source = next((workspace / "data/train/x").iterdir())
    image = read(source, "")
    write_array(tmp_path / "d" / "x" / "a.tif", "", image)
    write_array(tmp_path / "d" / "y" / "a.tif", "", np.zeros((3, 64, 64), np.uint8))
    code, printed = run("--do", "train", "--train-data", tmp_path / "d", root=tmp_path / "r")
    assert code == 2
    assert "has shape (3, 64, 64); expected 2 axes" in printed.err


def test_scores_of_classes_are_unknown_to_other_methods(run):
    code, printed = run(
        *("--do", "mknet", "--set", 'method.name="patches"', "--set", "method.patch_shape=[5,5]"),
        *("--set", 'evaluation.metric="general.mean_iou"'),
    )
    assert code == 2
    assert "metric must name a score; got 'general.mean_iou'" in printed.err

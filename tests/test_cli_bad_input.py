"""What bad input gets on the command line: one clear line, an exit code, nothing half-written."""

import errno
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import zarr

from instaseg import cli
from instaseg.blockwise import scheduler
from instaseg.data.config import DataSettings
from instaseg.io.arrays import has_array, write_array
from instaseg.io.convert import convert
from instaseg.io.points import POINTS_KEY, make_points
from instaseg.io.samples import find_samples
from instaseg.run.lock import exclusive
from instaseg.stages import session as sessions
from instaseg.training.checkpoints import checkpoint_path, list_checkpoints

ROOT = Path(__file__).parents[1]
EMBEDDED = ROOT / "experiments" / "dsb2018" / "data"
SIDE = 48

CONFIG = """
[method]
name = "patches"
patch_shape = [3, 3]

[data]
train_data = "data/train"
val_data = "data/val"
test_data = "data/test"

[model]
num_fmaps = 2
fmap_inc_factors = 2
downsample_factors = [[2, 2]]
padding = "same"
train_input_shape = [32, 32]
test_input_shape = [32, 32]

[training]
batch_size = 1
max_iterations = 2
checkpoints = 1
snapshots = 0
val_log_step = 0
num_workers = 0
augmentation.elastic.probability = 0.0
"""


def crop_embedded(role, count, folder):
    """Write the middle of the largest instance of some embedded images."""
    for image in sorted((EMBEDDED / role / "x").glob("*.tif"))[:count]:
        labels = tifffile.imread(EMBEDDED / role / "y" / image.name)
        largest = np.bincount(labels[labels > 0]).argmax()
        centre = np.argwhere(labels == largest).mean(0).astype(int)
        begin = np.clip(centre - SIDE // 2, 0, np.array(labels.shape) - SIDE)
        part = tuple(slice(b, b + SIDE) for b in begin)
        for kind, array in (("x", tifffile.imread(image)), ("y", labels)):
            (folder / role / kind).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / role / kind / image.name, array[part])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a working directory with tiny data and one experiment, trained for two iterations."""
    folder = tmp_path_factory.mktemp("work")
    for role, count in (("train", 2), ("val", 1), ("test", 2)):
        crop_embedded(role, count, folder / "data")
    (folder / "tiny.toml").write_text(CONFIG)
    command = ["--do", "train", "--config", str(folder / "tiny.toml"), "--root", str(folder / "r")]
    assert cli.main(command) == 0
    (experiment,) = (folder / "r").iterdir()
    experiment.rename(folder / "experiment")
    return folder


@pytest.fixture
def work(trained, tmp_path, monkeypatch):
    """Return a copy of it as the working directory."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    (tmp_path / "r").rmdir()
    config = tmp_path / "experiment/config.toml"
    config.write_text(config.read_text().replace(str(trained), str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(work, capsys):  # noqa: ARG001
    """Return a function that runs a command line and gives exit code, error text and output."""

    def call(*words):
        capsys.readouterr()
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as left:
            code = left.code
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return code, told.err, told.out

    return call


@pytest.fixture
def refused(run, work):
    """Return a function that runs a command line to be refused before anything is written."""

    def call(*words):
        before = state_of(work)
        code, err, out = run(*words)
        assert (code, out) == (2, "")
        assert state_of(work) == before
        return err.removeprefix("run_ppp.py: ")

    return call


def state_of(folder):
    """Return all files and when they were changed."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def prepare(words):
    """Return the session of a command line."""
    return sessions.prepare(cli.parser().parse_args(words), datetime.now().astimezone())


NEW = ("--do", "train", "--config", "tiny.toml", "--root", "new")


def again(*stages):
    return ("--do", *stages, "-id", "experiment")


def edit(folder, kind, change, number=0):
    """Change one image file of a data set and return its name."""
    path = sorted((folder / kind).glob("*.tif"))[number]
    tifffile.imwrite(path, change(tifffile.imread(path)))
    return path.stem


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# The command line


@pytest.mark.parametrize(
    ("flag", "instead"),
    [
        ("--skip_predict", "finished predictions are kept"),
        ("--only_predict_decode", "use --do predict decode"),
        ("--run_from_exp", "go on with it by -id"),
    ],
)
def test_flags_of_the_published_tool_are_told_what_replaces_them(refused, flag, instead):
    assert instead in refused(*NEW, flag)


def test_cross_validation_compares_results(refused):
    words = ("--do", "cross_validate", "--set", "validation.prediction_only=true")
    assert "expected false for --do cross_validate" in refused("-id", "experiment", *words)


def test_an_unknown_flag_gets_one_line_with_the_nearest(refused):
    assert refused(*NEW, "--confg", "x") == (
        '--confg: unknown flag, did you mean --config?; "x": expected a flag;'
        " run_ppp.py --help lists all flags\n"
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--config", "tiny.toml"], "required: --do"),
        (
            ["--do", "trian"],
            'unknown stage "trian" (did you mean train?); stages: mknet, sample_pict',
        ),
        ([*NEW, "--checkpoint", "one"], '--checkpoint: expected a whole number, found "one"'),
        ([*NEW, "--device", "gpu"], "--device: invalid choice: 'gpu' (choose from"),
        ([*NEW, "--workers", "0"], "num_workers: must be a whole number of at least 1; got 0"),
        ([*NEW, "--app", "dsb208"], "--app dsb208: no such app; did you mean dsb2018?"),
        ([*NEW, "--setup", "setup001"], "no such setup of dsb2018; did you mean setup01?"),
        (["--do", "train", "--config", "tiny"], "no such configuration file; did you mean tiny.to"),
        ([*NEW, "--set", "training"], "--set training: must be table.key=value"),
        ([*NEW, "--set", "seed=1"], 'found no table before "seed"'),
        ([*NEW, "--set", "model.nfmaps=3"], "[model] nfmaps: unknown key; did you mean 'num_fmaps"),
        ([*NEW, "--set", "modle.num_fmaps=3"], "[modle]: unknown table; did you mean [model]?"),
        (
            [*NEW, "--set", "model.num_fmaps=many"],
            'must be a whole number of at least 1; got "many',
        ),
        ([*NEW, "--set", "model.train_input_shape=[33,32]"], "The nearest that fit: [32, 32]"),
        ([*NEW, "--scheduler", "nowhere"], "--scheduler nowhere: no dask scheduler answers there"),
        ([*NEW[:-1], "tiny.toml"], "tiny.toml: expected a folder"),
        (again("label", "--checkpoint", "1", "--test-checkpoint", "last"), "found both"),
        (["--do", "status", "--root", "nowhere"], "--do status: expected an experiment, found no"),
        (["--do", "train", "-id", "nothing"], "expected an experiment folder (with config.toml)"),
        (["--do", "train", "-id", "data"], "found an empty or other folder"),
        (["--do", "train", "-id", "tiny.toml"], "found a file"),
        (again("predict", "--sample", "x"), "no sample 'x'; there are 2227fd, 4d0967"),
        (again("predict", "--checkpoint", "99"), "--checkpoint 99: no such checkpoint in"),
        (
            ["--do", "train", "predict", "--config", "tiny.toml", "--checkpoint", "1"],
            "--checkpoint 1: no such checkpoint in",
        ),
        (
            again("predict", "--test-checkpoint", "best"),
            "expected a validated checkpoint, found no",
        ),
        (again("label"), "--do label: expected a prediction in"),
        (again("evaluate"), "--do evaluate: expected instances in"),
        (again("cleanup"), "--do cleanup: expected instances in"),
        (
            ["--do", "predict", "--config", "tiny.toml", "--root", "."],
            "without -id a new one begins, which has none; run train before it",
        ),
    ],
)
def test_what_is_mistyped_is_refused_in_one_line(refused, words, expected):
    message = refused(*words)
    assert expected in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("flag", "given", "own"), [("app", "worms", "dsb2018"), ("setup", "s", "setup01")]
)
def test_an_experiment_belongs_to_one_app_and_setup(refused, run, work, flag, given, own):
    expected = f"--{flag} {given}: expected {own}, which the experiment {work / 'experiment'} was"
    for files in ([], ["--config", "tiny.toml"]):
        message = refused(*again("train"), f"--{flag}", given, *files)
        assert message.startswith(expected)
        assert "leave out -id to begin a new experiment" in message
    assert run(*again("status"), f"--{flag}", own)[0] == 0


def test_a_config_of_an_experiment_is_looked_up_in_its_setup(run, work):
    setups = work / "experiments" / "worms" / "setups"
    for name, threshold in (("setup01", 0.1), ("setup02", 0.2)):
        (setups / name).mkdir(parents=True)
        extra = f"[vote_instances]\npatch_threshold = {threshold}\n"
        (setups / name / "other.toml").write_text(extra)
    (setups / "setup02" / "default.toml").write_text(CONFIG.replace('"data/', f'"{work}/data/'))
    # The setup follows from where the configuration lies, as the app does.
    place = setups / "setup02" / "default.toml"
    code, err, _ = run("--do", "mknet", "--config", place, "--root", "new")
    assert code == 0, err
    (made,) = (work / "new").iterdir()
    assert made.name.startswith("worms_setup02_")
    session = prepare(["--do", "status", "-id", str(made), "--config", "other.toml"])
    assert session.context.config.vote_instances.patch_threshold == 0.2


def test_a_sample_for_stages_that_have_no_use_for_it(refused):
    assert refused(*NEW, "--sample", "a").startswith("--sample a: expected a stage that works on")


def test_an_interpreter_without_the_dependencies_is_named():
    # -S leaves out site-packages, as the system's Python has none of them.
    command = [sys.executable, "-S", str(ROOT / "run_ppp.py"), "--do", "all"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("run_ppp.py: No module named")
    assert "use the environment that make has made" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_scheduler_that_does_not_answer(refused, monkeypatch):
    monkeypatch.setattr(scheduler, "SECONDS_TO_CONNECT", 1)
    message = refused(*NEW, "--scheduler", "tcp://127.0.0.1:1")
    assert "--scheduler tcp://127.0.0.1:1: no dask scheduler answers there" in message
    assert "leave out --scheduler" in message


def test_a_device_that_is_not_there(refused):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert "cuda" in refused(*NEW, "--device", "cuda")


def test_all_errors_of_the_configuration_are_told_at_once(refused):
    message = refused(*NEW, "--set", "modle.a=1", "--set", "model.b=1", "--set", "data.ndim=4")
    assert message.startswith("3 errors in the configuration:")


def test_faults_of_different_kinds_are_told_at_once(refused):
    message = refused(
        *("--do", "all", "--config", "tiny.toml", "--train-data", "a", "--test-data", "b")
    )
    assert message.startswith("2 things are wrong:\n- ")
    assert message.count("expected a folder of images, found nothing. Check the path") == 2
    message = refused(*again("predict", "--checkpoint", "99", "--test-data", "b"))
    assert "no such checkpoint" in message
    assert "expected a folder of images" in message


def test_setup_code_is_imported_before_work(refused, work):
    code = work / "experiment" / "setup" / "torch_model.py"
    code.parent.mkdir()
    code.write_text("import nothing_of_that_name")
    assert f"{code}: cannot be imported: ModuleNotFound" in refused(*again("predict"))
    code.write_text("build = 1")
    assert "expected a function build_network, found none" in refused(*again("predict"))


def test_a_dry_run_writes_nothing(run, work):
    before = state_of(work)
    for words in (("--do", "all", "--config", "tiny.toml", "--root", "new"), again("predict")):
        code, _, out = run(*words, "--dry-run")
        assert code == 0
        assert "dry run: checked, nothing was written" in out
    assert state_of(work) == before


# Data


def test_missing_and_empty_folders(refused, work):
    (work / "empty").mkdir()
    assert f"{work / 'gone'}: expected a folder of images, found nothing" in refused(
        *NEW, "--train-data", "gone"
    )
    assert f"{work / 'empty'}: no images found; expected" in refused(*NEW, "--train-data", "empty")
    hint = "It has the folders test, train, val: name one of them?"
    assert hint in refused(*NEW, "--train-data", "data")


def test_an_image_without_mask_and_the_reverse(refused, work):
    labels = sorted((work / "data/train/y").iterdir())[0]
    labels.unlink()
    message = refused(*NEW)
    assert "has 2 images" in message
    assert f"{labels.name}: no labels of that name in" in message
    image = sorted((work / "data/train/x").iterdir())[1]
    image.unlink()
    (work / "data/train/x" / labels.name).unlink()
    assert f"{image.name}: no image of that name in" in refused(*NEW)
    shutil.rmtree(work / "data/train/y")
    tifffile.imwrite(image, np.eye(9, dtype=np.uint8))
    assert "has no labels; expected a file of the same name in a folder y/" in refused(*NEW)


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        ("y", lambda a: a[:40], "has shape (40, 48), the image (48, 48); expected the same"),
        ("x", lambda a: np.stack([a] * 3, -1), "It has 3 channels (RGB): set data.num_channels"),
        ("y", lambda a: a.astype(np.float32), "labels are float32; expected integers"),
        ("y", lambda a: a.astype(np.int32) - 1, "labels go down to -1; expected 0 for background"),
        ("y", lambda a: a * 0, "labels are 0 everywhere; expected at least one instance"),
        ("x", lambda a: a * 0 + 7, "image has the same value everywhere; expected one with contr"),
        ("x", lambda a: np.where(a > 50, np.nan, np.float32(1)), "voxels that are NaN or infinite"),
    ],
    ids=["shapes", "rgb", "float", "negative", "zero", "constant", "nan"],
)
def test_images_and_labels_with_wrong_values(refused, work, kind, change, expected):
    name = edit(work / "data/train", kind, change)
    message = refused(*NEW)
    assert "1 fault in 2 samples:\n  - " + name in message
    assert expected in message


def test_truncated_and_foreign_files(refused, work):
    image = sorted((work / "data/train/x").iterdir())[0]
    truncate(image)
    assert f"{image}: cannot be read as TIF" in refused(*NEW)
    image.write_text("no image")
    assert "of another format. Copy or export it again" in refused(*NEW)


def test_a_damaged_zarr_chunk(refused, work):
    convert(find_samples(work / "data/test", DataSettings()), work / "zarr")
    chunk = next(p for p in (work / "zarr").glob("*/volumes/raw/*") if p.name[0] != ".")
    truncate(chunk)
    message = refused(*again("predict", "--test-data", "zarr"))
    assert "cannot be read" in message
    assert "a chunk is damaged, write the array again" in message


def test_several_faults_of_the_data_are_told_at_once(refused, work):
    edit(work / "data/train", "y", lambda a: a.astype(np.float32))
    edit(work / "data/train", "x", lambda a: a * 0, number=1)
    edit(work / "data/test", "y", lambda a: a[:9])
    message = refused(*NEW[:2], "predict", *NEW[2:])
    for expected in ("2 things are wrong", "2 faults in", "float32", "same value", "(9, 48)"):
        assert expected in message


def test_validation_data_are_checked_before_training_if_it_uses_them(refused, run, work):
    edit(work / "data/val", "y", lambda a: a.astype(np.float32))
    loss = ("--set", "training.val_log_step=1")
    assert "labels are float32" in refused(*NEW, *loss)
    assert "found nothing" in refused(*NEW, *loss, "--val-data", "gone")
    assert run(*NEW)[0] == 0


def test_an_image_smaller_than_the_networks_input_is_mirrored(run, refused, work):
    def small(array):
        return array[14:34, 14:34]

    for number in range(2):
        for kind in ("x", "y"):
            edit(work / "data/train", kind, small, number)
            edit(work / "data/test", kind, small, number)
    code, err, _ = run("--do", "train", "infer", "--config", "tiny.toml", "--root", "new")
    assert code == 0, err
    name = edit(work / "data/test", "x", lambda a: a[:2, :2])
    edit(work / "data/test", "y", lambda a: a[:2, :2])
    message = refused(*again("predict"))
    assert f"{name}: image of shape (2, 2) is smaller than (3, 3)" in message
    assert "choose a smaller method.patch_shape" in message


def test_test_data_need_no_labels_and_no_contrast(run, work, caplog):
    shutil.rmtree(work / "data/test/y")
    name = edit(work / "data/test", "x", lambda a: a * 0)
    code, _, out = run(*again("infer"))
    assert code == 0
    assert "evaluate: no test sample has labels; nothing to compare" in out
    assert f"{name}: image has the same value everywhere" in caplog.text


# Methods


def with_method(folder, text, **replaced):
    """Write the tiny configuration for another method; return words that train with it."""
    config = CONFIG.replace('name = "patches"\npatch_shape = [3, 3]', text)
    for old, new in replaced.items():
        config = config.replace(f"{old} = ", f"{old} = {new} # ")
    (folder / "other.toml").write_text(config)
    return ("--do", "train", "--config", "other.toml", "--root", "new")


def channels(folder, *names):
    return with_method(folder, f'name = "channels"\nchannels = {list(names)}')


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            ['method.channels=["forground","contour"]'],
            'unknown channel "forground"; did you mean "foreground"?; channels are interior',
        ),
        (
            ['method.channels="BCX"', 'method.letters="biapy_3.0_to_3.5"'],
            '"X" in "BCX" is neither a channel nor a letter of letters = "biapy_3.0_to_3.5"; its',
        ),
        (
            ['method.channels="BCD"'],
            "BCD are BiaPy's letters, which mean different things in its versions (B is the inter",
        ),
        (
            ['method.channels="BCM"', 'method.letters="biapy_from_3.6"'],
            'letter "M" of "biapy_from_3.6": foreground and contour together have no counterpart',
        ),
        (
            ['method.channels="BF"', 'method.letters="biapy_3.0_to_3.5"'],
            'letter "F" of "biapy_3.0_to_3.5": it belongs to synapses; use name = "synapses"',
        ),
        (
            ['method.channels="Dv2"', 'method.letters="biapy_before_3.0"'],
            '[method.ridge] scale: expected "instance", found "image", which divides by the larges',
        ),
        (
            ['method.channels=["rays","contour"]'],
            "[method] channels: must be channels that can be decoded; got rays, contour; name seed",
        ),
        (
            ["vote_instances.seed_distance=0.3"],
            "seed_distance: must be left out: with the channels contour, foreground nothing is com",
        ),
        (["method.weights=[1,1,1]"], "weights must have one value for each of the 2 channels fore"),
        (
            ['method.channels=["foreground","offset_z"]'],
            "expected channels of images, found offset_z, which only volumes have (data.ndim = 2)",
        ),
        (
            ['method.channels=["affinities"]', "method.affinities.offsets=[[-1,0,0]]"],
            "expected lists of 2 whole numbers, not all 0, because data.ndim = 2, found [-1, 0, 0]",
        ),
        (
            ["training.augmentation.overlay.probability=0.5"],
            "expected the method patches with method.foreground = 'count'",
        ),
    ],
)
def test_channels_that_do_not_go_together(refused, work, settings, expected):
    words = channels(work, "foreground", "contour")
    message = refused(*words, *itertools.chain(*(("--set", one) for one in settings)))
    assert expected in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["model.test_input_shape=[33,32]"], "test_input_shape must fit the levels of the network"),
        (['postprocessing.remove_where=["volume < 5"]'], "volume"),
        (
            ['prediction.symmetries="flips_and_rotations"', "data.voxel_size=[1,2]"],
            "have sides of 1 and 2 along y and x, found 'flips_and_rotations'",
        ),
        (
            ['validation.params_product=["seed_contour"]', "validation.seed_contour=[0.2,1.2]"],
            "seed_contour: must be a value of contour, from 0 to 1; got 1.2",
        ),
        (['vote_instances.seed_steps=["open"]'], "must have one radius for each of the 1 seed_ste"),
    ],
)
def test_what_later_stages_need_is_checked_before_training(refused, work, settings, expected):
    words = channels(work, "foreground", "contour")
    message = refused(*words, *itertools.chain(*(("--set", one) for one in settings)))
    assert expected in message


def test_a_threshold_to_be_tried_for_a_channel_that_is_not_there(refused, work):
    words = ("--do", "train", "validate_checkpoints", *channels(work, "foreground")[2:])
    swept = 'validation.params_product=["seed_contour"]'
    message = refused(*words, "--set", swept, "--set", "validation.seed_contour=[0.1,0.2]")
    assert message.startswith("[validation] parameters seed_contour=0.1: [vote_instances] seed_con")
    assert "must be left out: with the channels foreground nothing is compared with it" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda a: a * 0, "labels are 0 everywhere; expected at least one instance"),
        (lambda a: np.stack([a] * 5), "has shape (5, 48, 48); expected 2 axes (data.ndim = 2)"),
    ],
    ids=["empty", "axes"],
)
def test_labels_that_channels_cannot_be_made_of(refused, work, change, expected):
    edit(work / "data/train", "y", change)
    assert expected in refused(*channels(work, "foreground", "contour"))


def test_channels_of_instances_that_overlap(refused, work):
    instances = np.zeros((2, 40, 40), np.uint8)
    instances[0, 18:22], instances[1, :, 18:22] = 1, 1
    write_array(work / "crossing/a.zarr", "volumes/raw", instances.sum(0, dtype=np.uint8))
    write_array(work / "crossing/a.zarr", "volumes/gt_instances", instances)
    words = (*channels(work, "foreground"), "--train-data", "crossing")
    wanted = "needs the method patches with method.foreground = 'count'"
    assert wanted in refused(*words)


@pytest.mark.parametrize("number", [2, 3])
def test_classes_beyond_the_number_of_classes(refused, work, number):
    edit(work / "data/train", "y", lambda a: (a > 0) * np.uint8(number))
    edit(work / "data/train", "y", lambda a: (a > 0) * np.uint8(1), number=1)
    words = with_method(work, f'name = "semantic"\nnum_classes = {number}')
    message = refused(*words)
    assert f"mask has the value {number}; expected classes 0 to {number - 1}" in message
    assert f"because method.num_classes = {number}" in message
    assert "1 fault in 2 samples" in message


def test_points_outside_the_volume(refused, work):
    sites = make_points([0, 1], [[1, 5, 5], [1, 5, 48]], partner=[-1, 0])
    raw = np.arange(4 * 48 * 48, dtype=np.uint16).reshape(1, 4, 48, 48)
    write_array(work / "sites/a.zarr", "volumes/raw", raw)
    write_array(work / "sites/a.zarr", POINTS_KEY, sites)
    text = 'name = "synapses"\nblob_radius = 24\npartner_distance = 60\n'
    text += "[evaluation]\ntolerance = 24"
    levels = {"downsample_factors": "[[1, 2, 2]]", "probability": "0"}
    shapes = dict.fromkeys(("train_input_shape", "test_input_shape"), "[4, 32, 32]")
    words = with_method(work, text, **levels, **shapes)
    settings = ("--set", "data.ndim=3", "--set", "data.voxel_size=[40,4,4]")
    message = refused(*words, *settings, "--train-data", "sites")
    assert "row 1 lies at (1, 5, 48), outside the volume of (4, 48, 48) voxels" in message


# Checkpoints


def test_a_checkpoint_of_another_architecture(run):
    assert run(*again("predict"))[0] == 0
    for stage in ("predict", "train"):
        code, err, _ = run(*again(stage, "--set", "model.num_fmaps=3"))
        assert code == 1
        assert "the checkpoint is of another architecture than the configuration describes" in err
        assert "model.num_fmaps: expected 3, found 2" in err


def test_a_damaged_checkpoint(run, work):
    file = checkpoint_path(work / "experiment/train/checkpoints", 2)
    truncate(file)
    for words in (again("predict"), again("train", "--set", "training.max_iterations=3")):
        code, err, _ = run(*words)
        assert code == 1
        assert f"{file}: expected a whole checkpoint of instaseg, found a damaged one" in err
        assert "Delete it, then use another checkpoint" in err
    file.unlink()
    assert run(*again("predict"))[0] == 0


# Damaged results


def test_damaged_results_are_made_again(run, work):
    assert run(*again("infer"))[0] == 0
    test = work / "experiment" / "test"
    (next(test.glob("predicted/2/*.zarr")) / "volumes/pred_affs/.zattrs").write_text("{")
    truncate(next(test.glob("evaluated/2/*/*.toml")))
    code, err, _ = run(*again("infer"))
    assert code == 0, err
    assert "predict: 1 of 2 samples of test done, skipped" in err
    assert "attributes cannot be read" in err


def test_damaged_verdicts_and_provenance_are_named(run, work):
    best = work / "experiment/val/best.toml"
    best.parent.mkdir()
    best.write_text("metric = ")
    for stage in ("predict", "status"):
        code, err, _ = run(*again(stage))
        assert code == 1
        assert f"{best}: expected the verdict of validate_checkpoints, found a damaged file" in err
    best.unlink()
    provenance = work / "experiment/provenance.toml"
    provenance.write_text("[")
    code, err, _ = run(*again("predict"))
    assert code == 1
    assert f"{provenance}: expected the runs of this experiment, found a damaged file" in err


# Disk full


def disk_full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_disk_full_while_predicting(run, work, monkeypatch):
    writes = itertools.count()
    write = zarr.Array.__setitem__

    def until_full(array, index, values):
        if next(writes) > 9:
            disk_full()
        write(array, index, values)

    monkeypatch.setattr(zarr.Array, "__setitem__", until_full)
    code, err, _ = run(*again("predict"))
    assert code == 1
    assert "stage predict: " in err
    assert ".zarr: cannot write volumes/pred_" in err
    assert "No space left on device" in err
    assert "Free space or choose another folder, then run the same command again with -id" in err
    # Finished tiles stay for the next run, under names of their own.
    assert len(list(work.rglob("finished_parts.partial"))) <= 1
    assert not any(
        has_array(path, "volumes/pred_affs") for path in work.glob("experiment/test/predicted/2/*")
    )
    monkeypatch.undo()
    monkeypatch.chdir(work)
    assert run(*again("infer"))[0] == 0


def test_disk_full_while_a_checkpoint_is_saved(run, work, monkeypatch):
    sync = os.fsync

    def full_at_third(descriptor):
        if "checkpoint_00000003" in os.readlink(f"/proc/self/fd/{descriptor}"):
            disk_full()
        sync(descriptor)

    folder = work / "experiment/train/checkpoints"
    before = state_of(folder)
    monkeypatch.setattr(os, "fsync", full_at_third)
    words = again("train", "--set", "training.max_iterations=3")
    code, err, _ = run(*words)
    assert code == 1
    assert f"{checkpoint_path(folder, 3)}: cannot write the checkpoint: No space left" in err
    assert "Earlier checkpoints are kept" in err
    assert state_of(folder) == before
    monkeypatch.setattr(os, "fsync", sync)
    assert run(*words)[0] == 0
    assert list_checkpoints(folder) == [1, 2, 3]


def test_disk_full_before_work_leaves_no_experiment(run, work, monkeypatch):
    monkeypatch.setattr(os, "fsync", disk_full)
    code, err, _ = run(*NEW)
    assert code == 2
    assert "cannot be made (No space left on device); free space or choose another --root" in err
    assert list((work / "new").iterdir()) == []


def test_disk_full_for_messages_stops_nothing(run, work):
    log = work / "experiment/run.log"
    log.unlink()
    log.symlink_to("/dev/full")
    assert run(*again("predict"))[0] == 0


def test_what_cannot_be_written_is_named(run, work):
    (work / "experiment/run.log").unlink()
    (work / "experiment/run.log").mkdir()
    code, err, _ = run(*again("predict"))
    assert code == 1
    assert f"{work / 'experiment/run.log'}: cannot be written (Is a directory)" in err


# Other processes, signals


def test_an_experiment_in_use_by_another_process(refused, work):
    with exclusive(work / "experiment/.lock"):
        message = refused(*again("predict"))
    assert f"{work / 'experiment'}: in use by process {os.getpid()} on " in message
    assert "wait until it has finished, or stop it" in message


def test_two_experiments_of_one_second_get_two_folders(run, work):
    for _ in range(2):
        assert run("--do", "mknet", *NEW[2:])[0] == 0
    assert len(list((work / "new").iterdir())) == 2


@pytest.mark.usefixtures("work")
def test_a_reader_that_goes_does_not_stop_the_work(monkeypatch):
    ours, theirs = os.pipe()
    os.close(ours)
    with open(theirs, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert cli.main(list(again("infer"))) == 0


def start(work, *words):
    """Start a command line in a process of its own, with threads for one core."""
    return subprocess.Popen(
        [sys.executable, ROOT / "run_ppp.py", *words],
        cwd=work,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def interrupt_when(process, ready):
    """Send Ctrl-C to a process as soon as something is there; return exit code and errors."""
    deadline = time.monotonic() + 60
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, err


def test_ctrl_c_while_training_saves_a_checkpoint(work):
    settings = ("training.max_iterations=1000000", "training.checkpoints=1000000")
    words = itertools.chain(*(("--set", setting) for setting in settings))
    log = work / "experiment/train/logs/log.csv"
    log.unlink()
    code, err = interrupt_when(start(work, *again("train", *words)), log.exists)
    assert code == 130
    assert f"interrupted; go on with the same command and -id {work / 'experiment'}" in err
    assert list_checkpoints(work / "experiment/train/checkpoints")[-1] > 2


def test_ctrl_c_while_predicting_leaves_no_array_that_looks_finished(work):
    # so large that a busy machine sees the array before it is finished
    for number in range(2):
        edit(work / "data/test", "x", lambda a: np.tile(a, (60, 60)), number)
        edit(work / "data/test", "y", lambda a: np.tile(a, (60, 60)), number)
    predicted = work / "experiment/test/predicted/2"
    process = start(work, *again("predict"))
    code, _ = interrupt_when(process, lambda: any(predicted.glob("*/volumes/*.partial")))
    assert code == 130
    left = [path.name for path in predicted.glob("*/volumes/pred_*")]
    assert all(name.endswith(".partial") for name in left)


@pytest.mark.parametrize(("given", "threads"), [("1", "1"), ("0", "None"), ("2,1", "None")])
def test_numba_has_the_threads_that_openmp_is_given(tmp_path, given, threads):
    code = (
        "import os; from instaseg.cli import main; main(['--do', 'status']);"
        " print(os.environ.get('NUMBA_NUM_THREADS'))"
    )
    left = {name: value for name, value in os.environ.items() if name != "NUMBA_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=left | {"OMP_NUM_THREADS": given, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == threads
    assert "expected an experiment" in done.stderr

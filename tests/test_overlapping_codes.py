"""The whole pipeline on instances that cross, by patch codes, a count head, and in blocks."""

from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from instaseg.blockwise.store import open_store
from instaseg.io.arrays import delete_array, has_array, open_array, write_array
from instaseg.io.samples import read_whole
from instaseg.methods.patches.codes import PatchCoding
from instaseg.stages import decode as decode_stage

SETUP = """
[method]
name = "patches"
patch_shape = [9, 9]
prediction = "codes"
foreground = "count"

[method.code]
code_units = 27
decoder_fmaps = [8, 8]
patches_per_crop = 128

[data]
train_data = "../../../../data/train"
val_data = "../../../../data/val"
test_data = "../../../../data/test"

[general]
device = "cpu"

[model]
num_fmaps = 8
downsample_factors = [[2, 2]]
padding = "same"
normalization = "batch"
train_input_shape = [48, 48]
test_input_shape = [96, 96]

[training]
batch_size = 2
max_iterations = 40
checkpoints = 40
snapshots = 0
val_log_step = 0
num_workers = 0

[training.sampling]
probability_random = 0.2
probability_fg = 0.3
probability_overlap = 0.5

[training.augmentation.overlay]
probability = 0.5

[optimizer]
lr = 2e-2

[vote_instances]
partition = "mutex"
thin_out = "greedy"
output = "packed"
"""


def bars(seed, shape=(64, 80)):
    """Return an image (uint8) of bright bars that cross, and the bars (n, y, x)."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    found = []
    for number in range(4):
        angle = rng.uniform(0, np.pi / 4) + (np.pi / 2 if number % 2 else 0)
        centre = [rng.uniform(20, n - 20) for n in shape]
        along = (y - centre[0]) * np.cos(angle) + (x - centre[1]) * np.sin(angle)
        across = (x - centre[1]) * np.cos(angle) - (y - centre[0]) * np.sin(angle)
        found.append((abs(along) < 18) & (abs(across) < 3))
    image = 40 + 80 * np.minimum(np.sum(found, axis=0), 2) + rng.normal(0, 5, shape)
    return np.clip(image, 0, 255).astype(np.uint8), np.array(found)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crossing")
    for role, seeds in {"train": (0, 1, 2), "val": (3,), "test": (4, 5)}.items():
        for seed in seeds:
            image, instances = bars(seed)
            sample = folder / "data" / role / f"bars{seed}.zarr"
            write_array(sample, "volumes/raw", image)
            write_array(sample, "volumes/gt_instances", instances.astype(np.uint8))
    setup = folder / "experiments" / "bars" / "setups" / "setup01"
    setup.mkdir(parents=True)
    (setup / "default.toml").write_text(SETUP)
    return folder


@pytest.fixture(scope="module")
def finished(workspace, tmp_path_factory):
    """Return the experiment of ``--do all``."""
    import os

    from instaseg.cli import main

    here = Path.cwd()
    root = tmp_path_factory.mktemp("runs")
    try:
        os.chdir(workspace)
        assert main(["--app", "bars", "--root", str(root), "--do", "all"]) == 0
    finally:
        os.chdir(here)
    (experiment,) = (path for path in root.iterdir() if path.is_dir())
    return experiment


@pytest.fixture
def experiment(finished, tmp_path):
    return Path(copytree(finished, tmp_path / "experiment"))


def zarr_of(experiment, kind, sample):
    (found,) = (experiment / "test" / kind).rglob(f"{sample}.zarr")
    return found


def read(path, key):
    return read_whole(open_array(path, key))


def test_all_stages_understand_codes_counts_and_channels(experiment):
    for sample in ("bars4", "bars5"):
        prediction = zarr_of(experiment, "predicted", sample)
        assert read(prediction, "volumes/pred_code").shape == (27, 72, 88)
        counts = read(prediction, "volumes/pred_numinst").astype(float)
        assert counts.shape == (3, 72, 88)
        np.testing.assert_allclose(counts.sum(axis=0), 1, atol=0.01)
        patches = read(prediction, "volumes/pred_affs").astype(float)
        assert patches.shape == (81, 72, 88)
        foreground = 1 - counts[0] > 0.5
        assert patches[:, foreground].any(axis=0).all()
        assert not patches[:, ~foreground].any()
        instances = zarr_of(experiment, "instances", sample)
        for key in ("vote_instances", "instances"):
            labels = read(instances, key)
            assert labels.ndim == 3
            assert labels.shape[1:] == (64, 80)
            assert labels.any()
    assert list((experiment / "test" / "evaluated").rglob("bars4.toml"))
    assert (experiment / "report" / "index.html").exists()


def label(run, experiment, *arguments):
    assert run("-id", experiment, *arguments).code == 0
    return [
        read(zarr_of(experiment, "instances", sample), "vote_instances")
        for sample in ("bars4", "bars5")
    ]


def test_blocks_change_nothing(run, workspace, monkeypatch, experiment):
    monkeypatch.chdir(workspace)
    whole = label(run, experiment, "--do", "status")
    blocks = ("--overwrite", "--set", "general.block_shape=[30, 37]")
    found = label(run, experiment, "--do", "label", *blocks)
    for one, other in zip(whole, found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not list(experiment.rglob("*.blocks"))


def test_codes_decoded_in_label_give_the_same(run, workspace, monkeypatch, experiment):
    monkeypatch.chdir(workspace)
    whole = label(run, experiment, "--do", "status")
    in_label = ("--set", 'method.code.decode="label"')
    found = label(run, experiment, "--do", "decode", "label", *in_label)
    for one, other in zip(whole, found, strict=True):
        np.testing.assert_array_equal(one, other)
    blocks = ("--overwrite", "--set", "general.block_shape=[30, 37]", "--workers", "2")
    found = label(run, experiment, "--do", "label", *in_label, *blocks)
    for one, other in zip(whole, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_killed_decode_goes_on_with_the_missing_chunks(run, workspace, monkeypatch, experiment):
    """Decoding a large image takes long; what is decoded is not decoded again."""
    monkeypatch.chdir(workspace)
    prediction = zarr_of(experiment, "predicted", "bars4")
    before = read_whole(open_array(prediction, "volumes/pred_affs"))
    delete_array(prediction, "volumes/pred_affs")
    decoded = []
    whole = PatchCoding.decode

    def counted(self, *arguments):
        if len(decoded) == 2:
            raise KeyboardInterrupt
        decoded.append(1)
        return whole(self, *arguments)

    # an image of 96 x 96 in chunks of 24 x 24
    monkeypatch.setattr(decode_stage, "chunk_shape", lambda channels, _: (channels, 24, 24))
    with monkeypatch.context() as patched:
        patched.setattr(PatchCoding, "decode", counted)
        assert run("-id", experiment, "--do", "decode").code == 130
    assert not has_array(prediction, "volumes/pred_affs")
    done = run("-id", experiment, "--do", "decode")
    assert done.code == 0, done.err
    assert "decode: sample bars4 goes on after 2 of" in done.err
    after = read_whole(open_array(prediction, "volumes/pred_affs"))
    np.testing.assert_array_equal(before, after)


def test_tiles_and_chunks_are_shared_out_among_workers(run, workspace, monkeypatch, experiment):
    monkeypatch.chdir(workspace)
    prediction = zarr_of(experiment, "predicted", "bars4")
    keys = ("volumes/pred_code", "volumes/pred_numinst", "volumes/pred_affs")
    before = [read_whole(open_array(prediction, key)) for key in keys]
    small = ("--set", "model.test_input_shape=[48, 48]", "--workers", "2", "--overwrite")
    assert run("-id", experiment, "--do", "predict", "decode", *small).code == 0
    for key, wanted in zip(keys, before, strict=True):
        found = read_whole(open_array(prediction, key))
        # sums of a network on one thread may differ in the last bit
        np.testing.assert_allclose(found.astype(float), wanted.astype(float), atol=2e-3, rtol=0)
    assert run("-id", experiment, "--do", "predict", "decode", "--overwrite").code == 0


def test_label_asks_for_decode(run, workspace, monkeypatch, experiment):
    monkeypatch.chdir(workspace)
    prediction = zarr_of(experiment, "predicted", "bars4")
    delete_array(prediction, "volumes/pred_affs")
    assert not has_array(prediction, "volumes/pred_affs")
    done = run("-id", experiment, "--do", "label", "--overwrite")
    assert done.code == 1
    assert "run decode first" in done.err
    assert run("-id", experiment, "--do", "decode", "label", "--overwrite").code == 0


def empty_copy(workspace, tmp_path, change):
    """Return a copy of the training data whose first sample has other instances."""
    folder = Path(copytree(workspace / "data" / "train", tmp_path / "train"))
    instances = read(folder / "bars0.zarr", "volumes/gt_instances")
    write_array(folder / "bars0.zarr", "volumes/gt_instances", change(instances))
    return folder


def first_twice(instances):
    return np.concatenate([instances, instances[:1]])


def with_an_empty_one(instances):
    return np.concatenate([instances, instances[:1] * 0])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["method.code.code_units=28"], ["code_units", "multiple of 9", "27"]),
        (['method.foreground="head"'], ["bars0", "method.foreground", "count"]),
        (['method.foreground="centre"'], ["foreground", "head", "count"]),
        (['prediction.symmetries="flips"'], ["symmetries", "none", "codes"]),
        (["method.patch_shape=[8, 9]"], ["patch_shape", "odd"]),
        (
            ['method.prediction="patches"', "method.patch_shape=[81, 81]"],
            ["bars0", "81"],
        ),
        (["general.block_shape=[8, 8, 8]"], ["block_shape", "2 numbers"]),
        (["general.block_shape=[0, 8]"], ["block_shape"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_settings_that_do_not_fit(run, workspace, monkeypatch, tmp_path, settings, words):
    monkeypatch.chdir(workspace)
    given = [argument for setting in settings for argument in ("--set", setting)]
    root = tmp_path / "runs"
    done = run("--app", "bars", "--root", root, "--do", "mknet", "train", *given)
    assert done.code == 2
    for word in words:
        assert word in done.err
    assert not root.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (first_twice, ["bars0", "channels 0 and 4", "same voxels"]),
        (with_an_empty_one, ["bars0", "empty"]),
    ],
)
def test_instance_channels_that_cannot_be(run, workspace, monkeypatch, tmp_path, change, words):
    monkeypatch.chdir(workspace)
    folder = empty_copy(workspace, tmp_path, change)
    root = tmp_path / "runs"
    done = run("--app", "bars", "--root", root, "--do", "train", "--train-data", folder)
    assert done.code == 2
    for word in words:
        assert word in done.err
    assert not root.exists()


def test_blocks_of_other_parameters_are_not_used(run, workspace, monkeypatch, experiment):
    monkeypatch.chdir(workspace)
    whole = label(run, experiment, "--do", "status")
    stale = zarr_of(experiment, "instances", "bars4").with_suffix(".blocks")
    open_store(stale, "something else").write("ranked", 0, {"positions": np.zeros((0, 3))})
    found = zarr_of(experiment, "instances", "bars4")
    delete_array(found, "vote_instances")
    done = run(
        *("-id", experiment, "--do", "label"),
        *("--set", "general.block_shape=[30, 37]"),
    )
    assert done.code == 0
    assert "made from other data, parameters or block shapes" in done.err
    np.testing.assert_array_equal(read(found, "vote_instances"), whole[0])

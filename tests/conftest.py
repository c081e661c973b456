"""Small generated images, and one small experiment on real ones, shared by the tests."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree

import hypothesis
import numpy as np
import pytest

from instaseg.cli import main
from instaseg.io.arrays import open_array, write_array
from instaseg.io.samples import read_whole

# As the command line has it, but before any test loads numba: processes that tests start compute
# with as many threads as this one, and so the same.
if "OMP_NUM_THREADS" in os.environ:
    os.environ.setdefault("NUMBA_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def draw_nuclei(shape, count, seed):
    """Return a grey image (uint8) of bright discs on a noisy ground, and their labels (uint16)."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, dtype=np.uint16)
    grid = np.indices(shape)
    for number in range(1, count + 1):
        centre = [rng.uniform(3, n - 3) for n in shape]
        radius = rng.uniform(4, 7)
        distance = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
        labels[(distance < radius**2) & (labels == 0)] = number
    image = np.where(labels > 0, 160, 40) + rng.normal(0, 8, shape)
    return np.clip(image, 0, 255).astype(np.uint8), labels


def write_images(folder: Path, names, *, shape=(48, 56), image_folder="x", label_folder="y"):
    """Write TIFF pairs of generated nuclei."""
    for seed, name in enumerate(names):
        image, labels = draw_nuclei(shape, 8, seed)
        write_array(folder / image_folder / f"{name}.tif", "", image)
        write_array(folder / label_folder / f"{name}.tif", "", labels)
    return folder


@pytest.fixture
def image_folder(tmp_path):
    """Return a data set of three TIFF pairs in x/ and y/."""
    return write_images(tmp_path / "images", ["a", "b", "c"])


ROOT = Path(__file__).parents[1]

TINY_SETUP = """
[method]
name = "patches"
patch_shape = [5, 5]

[data]
train_data = "../../../../data/train"
val_data = "../../../../data/val"
test_data = "../../../../data/test"

[general]
device = "cpu"

[model]
num_fmaps = 4
downsample_factors = [[2, 2], [2, 2]]
padding = "same"
normalization = "batch"
train_input_shape = [64, 64]
test_input_shape = [128, 128]

[training]
batch_size = 2
max_iterations = 8
checkpoints = 4
snapshots = 4
val_log_step = 4
val_batches = 1
log_step = 1
num_workers = 0
weight_averaging = 0.5

[optimizer]
lr = 2e-2

[validation]
params_product = ["patch_threshold", "fg_threshold"]
patch_threshold = [0.5, 0.7]
fg_threshold = [0.3, 0.4]

[visualize]
max_samples = 2
"""


@dataclass(frozen=True)
class Finished:
    """What one run of the command line left behind."""

    code: int
    out: str
    err: str

    @property
    def experiment(self) -> Path:
        """The experiment folder it named first."""
        return Path(self.err.partition("experiment ")[2].partition("\n")[0])


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    """Return a working directory with crops of real nuclei and an app ``tiny`` that trains on them.

    No test changes it; new experiments go to folders of their own.
    """
    folder = tmp_path_factory.mktemp("workspace")
    for role, count in {"train": 3, "val": 2, "test": 3}.items():
        source = ROOT / "experiments" / "dsb2018" / "data" / role
        for image in sorted((source / "x").glob("*.tif"))[:count]:
            for kind in ("x", "y"):
                values = read_whole(open_array(source / kind / image.name, ""))
                write_array(folder / "data" / role / kind / image.name, "", values[:96, :96])
    setup = folder / "experiments" / "tiny" / "setups" / "setup01"
    setup.mkdir(parents=True)
    (setup / "default.toml").write_text(TINY_SETUP)
    return folder


@pytest.fixture(scope="session")
def command_line(workspace):
    """Return a function that runs ``run_ppp.py`` in a process of its own, in the workspace."""

    def run(*arguments: object) -> Finished:
        command = [sys.executable, str(ROOT / "run_ppp.py"), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=workspace, capture_output=True, text=True, timeout=300, check=False
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def finished_run(command_line, tmp_path_factory):
    """Return the run of ``--do all`` that the tests look at; no test changes its experiment."""
    root = tmp_path_factory.mktemp("finished")
    return command_line("--app", "tiny", "--root", root, "--do", "all")


@pytest.fixture
def experiment(finished_run, tmp_path):
    """Return a copy of a finished experiment."""
    assert finished_run.code == 0, finished_run.err
    return Path(copytree(finished_run.experiment, tmp_path / "experiment"))


@pytest.fixture
def run(workspace, monkeypatch, capsys):
    """Return a function that runs the command line in this process, in the workspace."""
    monkeypatch.chdir(workspace)

    def run_here(*arguments: object) -> Finished:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Finished(code, printed.out, printed.err)

    return run_here

"""Killed with SIGKILL at any moment and started again, a run ends as one that was not killed.

A process of its own runs the command line and kills itself at a chosen change of the experiment's
files: these are the moments that differ for what is found afterwards. The slow tests kill from
outside as well, at random times.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest
import torch

from instaseg.io.arrays import list_arrays, open_array
from instaseg.io.samples import read_whole
from instaseg.training.checkpoints import list_checkpoints, load_checkpoint

ROOT = Path(__file__).parents[1]

KILLS_ITSELF = """
import os, re, signal, sys

pattern, left = re.compile(sys.argv[1]), int(sys.argv[2])
changes = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}

def watch(event, arguments):
    global left
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if (writes or event in changes) and pattern.search(str(arguments[0])):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    sys.addaudithook(watch)
    from instaseg.cli import main
    sys.exit(main(sys.argv[3:]))
"""
"""Runs the command line until the n-th change of a file whose path matches a pattern."""


@pytest.fixture
def start(workspace, tmp_path):
    """Return a function that starts a process that may kill itself at a change of files."""
    script = tmp_path / "kills_itself.py"
    script.write_text(KILLS_ITSELF)

    def start_it(pattern, number, *arguments):
        command = [sys.executable, script, pattern, number, *arguments]
        return subprocess.Popen(
            list(map(str, command)),
            cwd=workspace,
            env=os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start_it


@pytest.fixture
def killed_at(start):
    """Return a function that waits until such a process has killed itself."""

    def killed(pattern, number, *arguments):
        process = start(pattern, number, *arguments)
        _, messages = process.communicate(timeout=200)
        assert process.returncode == -signal.SIGKILL, messages

    return killed


def arrays(experiment):
    """Return all finished arrays below ``test``, by path and key."""
    found = {}
    for path in sorted((experiment / "test").glob("*/**/*.zarr")):
        for key in list_arrays(path):
            name = f"{path.relative_to(experiment)}/{key}"
            found[name] = read_whole(open_array(path, key))
    return found


def scores(experiment):
    """Return the text of all files of scores below ``test``, by path."""
    files = (experiment / "test" / "evaluated").glob("*/**/*.*")
    return {str(path.relative_to(experiment)): path.read_text() for path in files if path.is_file()}


def assert_part_of(found, whole):
    """Check that whatever looks finished is what it will be in the end."""
    for name, array in found.items():
        np.testing.assert_array_equal(array, whole[name], err_msg=name)


def assert_same_end(experiment, uninterrupted):
    found, expected = arrays(experiment), arrays(uninterrupted)
    assert found.keys() == expected.keys()
    assert_part_of(found, expected)
    assert scores(experiment) == scores(uninterrupted)
    assert not list((experiment / "test").rglob("*.partial"))


def assert_same_weights(experiment, uninterrupted):
    folders = [e / "train" / "checkpoints" for e in (experiment, uninterrupted)]
    found, expected = map(load_checkpoint, folders)
    assert found.iteration == expected.iteration == 8
    for kind in ("weights", "averaged_weights"):
        ours, theirs = getattr(found, kind), getattr(expected, kind)
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


# One kill in each phase.


@pytest.mark.parametrize(
    ("number", "partial"),
    [
        pytest.param(1, False, id="before the file is made", marks=pytest.mark.slow),
        pytest.param(2, True, id="before it is renamed"),
    ],
)
def test_training_killed_while_it_saves(killed_at, run, finished_run, tmp_path, number, partial):
    root = tmp_path / "runs"
    train = ("--do", "train", "--app", "tiny", "--root", root)
    killed_at("checkpoint_00000008", number, *train)
    (experiment,) = root.iterdir()
    checkpoints = experiment / "train" / "checkpoints"
    assert (checkpoints / "checkpoint_00000008.pt.partial").exists() == partial
    assert list_checkpoints(checkpoints) == [4]

    done = run("--do", "train", "-id", experiment)
    assert done.code == 0, done.err
    assert "training goes on from" in done.err
    assert_same_weights(experiment, finished_run.experiment)
    assert list_checkpoints(checkpoints) == [4, 8]
    assert not list(checkpoints.glob("*.partial"))


def test_a_half_written_checkpoint_is_none(run, experiment):
    """Only the partial file of the first checkpoint is there: found before any work."""
    checkpoints = experiment / "train" / "checkpoints"
    (checkpoints / "checkpoint_00000004.pt").rename(checkpoints / "checkpoint_00000004.pt.partial")
    (checkpoints / "checkpoint_00000008.pt").unlink()
    refused = run("--do", "predict", "-id", experiment)
    assert refused.code == 2
    assert "run train before it" in refused.err


PHASES = {
    "predict": ("/predicted/", 60),
    "label": ("/instances/.*vote_instances", 9),
    "postprocess": ("/instances/.*zarr/instances", 9),
    "evaluate": ("/evaluated/", 6),
}
"""Where a phase writes, and about how many changes of files it makes at least."""


def test_each_phase_killed_once(killed_at, run, experiment, finished_run):
    """Predict, label and evaluate are killed at a change of their files, drawn with a seed."""
    draw, phases = random.Random(1), ("predict", "label", "evaluate")
    rmtree(experiment / "test")
    whole = arrays(finished_run.experiment)
    for phase, later in zip(phases, (*phases[1:], None), strict=True):
        pattern, changes = PHASES[phase]
        stages = ("predict", "label", "postprocess", "evaluate")
        killed_at(pattern, draw.randint(2, changes), "--do", *stages, "-id", experiment)
        assert_part_of(arrays(experiment), whole)
        assert later is None or not any(re.search(PHASES[later][0], n) for n in arrays(experiment))
    done = run("--do", "predict", "label", "postprocess", "evaluate", "-id", experiment)
    assert done.code == 0, done.err
    assert "predict: 3 of 3 samples of test done, skipped" in done.err
    assert_same_end(experiment, finished_run.experiment)


# Many.


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_killed_again_and_again(killed_at, run, experiment, finished_run, phase):
    draw = random.Random(phase)
    rmtree(experiment / "test")
    whole = arrays(finished_run.experiment)
    pattern, changes = PHASES[phase]
    stages = ("predict", "label", "postprocess", "evaluate")
    # Each kill may leave one sample less to do: draw among the changes of one sample.
    for _ in range(3):
        killed_at(pattern, draw.randint(1, changes // 3), "--do", *stages, "-id", experiment)
        assert_part_of(arrays(experiment), whole)
    assert run("--do", *stages, "-id", experiment).code == 0
    assert_same_end(experiment, finished_run.experiment)


def kill_after(process, seconds):
    """Kill a process unless it ends before; return whether it was killed."""
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_training_killed_at_random_times(start, finished_run, tmp_path, workers):
    """Each life gets more time than the one before, so that the training ends."""
    draw, root = random.Random(workers), tmp_path / "runs"
    setting = ("--set", f"training.num_workers={workers}")
    arguments = ["--app", "tiny", "--root", root]
    kills = 0
    for life in range(40):
        process = start("never", 1, "--do", "train", *arguments, *setting)
        if not kill_after(process, draw.uniform(0.5, 1.5) * (3 + life)):
            assert process.returncode == 0
            break
        kills += 1
        made = [path for path in root.glob("*") if (path / "config.toml").exists()]
        if made:
            arguments = ["-id", made[-1]]
    assert kills >= 1
    assert_same_weights(Path(arguments[-1]), finished_run.experiment)


@pytest.mark.slow
def test_everything_after_training_killed_at_random_times(start, experiment, finished_run):
    draw = random.Random(3)
    rmtree(experiment / "test")
    rmtree(experiment / "val")
    stages = ("validate_checkpoints", "predict", "label", "postprocess", "evaluate")
    for life in range(40):
        process = start("never", 1, "--do", *stages, "-id", experiment)
        if not kill_after(process, draw.uniform(0.5, 1.5) * (3 + life)):
            assert process.returncode == 0
            break
    assert_same_end(experiment, finished_run.experiment)
    for name in ("best.toml", "validation.csv"):
        ours, theirs = (e / "val" / name for e in (experiment, finished_run.experiment))
        assert ours.read_text() == theirs.read_text()


@pytest.mark.slow
def test_nothing_of_a_killed_run_stays(start, run, tmp_path):
    """Neither its lock nor the processes that loaded its crops."""
    root = tmp_path / "runs"
    arguments = ("--app", "tiny", "--root", root, "--set", "training.num_workers=1")
    process = start("never", 1, "--do", "train", *arguments)
    while not list(root.glob("*/train/logs/log.csv")):
        time.sleep(0.1)
        assert process.poll() is None, process.stderr.read()
    process.kill()
    (experiment,) = root.iterdir()
    assert run("--do", "mknet", "-id", experiment).code == 0
    # Loader processes hold the other end of this pipe: it closes when the last of them has ended.
    process.communicate(timeout=20)

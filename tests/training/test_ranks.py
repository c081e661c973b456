"""Two processes train what one would with twice the batch; the first one writes."""

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
import torch

from instaseg.cli import parser
from instaseg.errors import ConfigError
from instaseg.stages.session import prepare
from instaseg.training.checkpoints import list_checkpoints, load_checkpoint
from instaseg.training.devices import choose_device
from instaseg.training.logs import read_log
from instaseg.training.ranks import ALONE, Ranks, joined

SCRIPT = Path(__file__).with_name("two_processes.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def call(command, cwd=None):
    quiet = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=cwd,
        env=quiet,
    )


def test_one_process_has_nothing_to_exchange(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as ranks:
        assert ranks is ALONE
    value = torch.tensor([1.0, 2.0])
    ranks.mean([value])
    ranks.copy_from_first([value])
    ranks.meet()
    assert value.tolist() == [1, 2]
    assert ranks.largest(0.25) == 0.25
    assert ranks.any(True)
    assert not ranks.any(False)
    assert ranks.gather("x") == ["x"]


def test_torchrun_with_one_process(monkeypatch):
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1")):
        monkeypatch.setenv(name, value)
    with joined() as ranks:
        assert ranks is ALONE


def test_a_device_for_each_process(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert choose_device("auto", Ranks(5, 8, 1)) == torch.device("cuda", 1)
    assert chosen == [1]
    assert choose_device("cpu", Ranks(1, 8, 1)) == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"at most 2 processes .* --nproc-per-node=2"):
        choose_device("cuda", Ranks(2, 3, 2))


def test_other_stages_are_refused(tmp_path):
    arguments = parser().parse_args(["--do", "train", "predict", "--root", str(tmp_path)])
    with pytest.raises(ConfigError, match=r"expected --do train alone, found predict; .* with -id"):
        prepare(arguments, datetime.now().astimezone(), Ranks(1, 2, 1))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return what two processes with batches of one wrote, and one with batches of two."""
    two, one = tmp_path_factory.mktemp("two"), tmp_path_factory.mktemp("one")
    for command in ([*TORCHRUN, SCRIPT, two, 1], [sys.executable, SCRIPT, one, 2]):
        done = call(command)
        assert done.returncode == 0, done.stderr
    return two, one


@pytest.mark.slow
def test_same_as_one_process_with_the_double_batch(folders):
    found = [load_checkpoint(folder / "whole" / "checkpoints") for folder in folders]
    for name in ("weights", "averaged_weights"):
        for key, weight in getattr(found[0], name).items():
            torch.testing.assert_close(weight, getattr(found[1], name)[key], atol=1e-5, rtol=0)
    logs = [read_log(folder / "whole" / "logs" / "log.csv") for folder in folders]
    for two, one in zip(*logs, strict=True):
        del two["seconds"], one["seconds"]
        assert two == pytest.approx(one, abs=1e-5)
    assert [row["iteration"] for row in logs[0]] == [1, 2, 3, 4, 5, 6]
    assert "validation_loss" in logs[0][2]


@pytest.mark.slow
def test_the_first_process_writes(folders):
    first, second = (json.loads((folders[0] / f"{rank}.json").read_text()) for rank in (0, 1))
    assert (first["size"], first["local"], second["local"]) == (2, 0, 1)
    assert (first["snapshots"], second["snapshots"]) == ([2, 4, 6], [])
    assert first["weights"] == second["weights"]
    assert first["any"] == second["any"] == [True, False]
    assert second["from first"] == "a"


@pytest.mark.slow
def test_it_goes_on_from_the_last_checkpoint(folders):
    found = [load_checkpoint(folders[0] / name / "checkpoints") for name in ("whole", "cut")]
    assert found[0].iteration == found[1].iteration == 6
    for key, weight in found[0].weights.items():
        assert torch.equal(weight, found[1].weights[key]), key


@pytest.mark.slow
def test_one_process_finds_a_loss_that_is_not_finite(folders):
    """The second one has the broken image; all stop, the first one tells."""
    first, second = (json.loads((folders[0] / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["error"][0] == "StageError"
    assert "iteration 5: expected a finite loss, found nan" in first["error"][1]
    assert "mend the images" in first["error"][1]
    assert second["error"][0] == "PeerError"
    assert list_checkpoints(folders[0] / "broken" / "checkpoints") == [3]


@pytest.mark.slow
def test_the_command_line(workspace, tmp_path):
    run = [*TORCHRUN, SCRIPT.parents[2] / "run_ppp.py", "--app", "tiny", "--root", tmp_path]
    done = call([*run, "--do", "train"], cwd=workspace)
    assert done.returncode == 0, done.stderr
    (experiment,) = tmp_path.iterdir()
    assert list_checkpoints(experiment / "train" / "checkpoints") == [4, 8]
    assert (experiment / "run.log").read_text().count("2 processes, batches of 4") == 1
    assert done.stdout.count("train: 8 iterations") == 1

    again = ["-id", experiment, "--do", "train", "--set", "training.max_iterations=12"]
    done = call([*TORCHRUN, SCRIPT.parents[2] / "run_ppp.py", *again], cwd=workspace)
    assert done.returncode == 0, done.stderr
    assert list_checkpoints(experiment / "train" / "checkpoints") == [4, 8, 12]

    wrong = call([*run, "--do", "train", "label"], cwd=workspace)
    assert wrong.returncode != 0
    assert wrong.stderr.count("expected --do train alone") == 1

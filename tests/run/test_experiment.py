"""Experiment folders, locks, fingerprints, provenance, setups."""

import multiprocessing
import os
import signal
import socket
import tomllib
from datetime import datetime
from pathlib import Path

import pytest

from instaseg.errors import ConfigError, StageError
from instaseg.metrics.config import EvaluationSettings
from instaseg.run import provenance, setups
from instaseg.run.experiment import new_experiment, open_experiment
from instaseg.run.fingerprint import fingerprint
from instaseg.run.lock import exclusive

NOW = datetime(2026, 11, 20, 13, 5, 9)


def test_folder_name_tells_app_setup_and_time():
    assert new_experiment(Path("r"), "worms", "setup02", NOW).folder == Path(
        "r/worms_setup02_261120_130509"
    )


def test_opening_what_is_no_experiment_says_what_was_expected(tmp_path):
    with pytest.raises(ConfigError, match=r"-id .*: expected an experiment folder \(with config"):
        open_experiment(tmp_path)
    with pytest.raises(ConfigError, match="found no such folder"):
        open_experiment(tmp_path / "nothing")


def test_fingerprints_tell_numbers_of_different_type_and_tables_apart():
    digests = {
        fingerprint("a", 1),
        fingerprint("a", 1.5),
        fingerprint("a", [1, 5]),
        fingerprint("a", EvaluationSettings()),
        fingerprint("a", EvaluationSettings(worst=3)),
    }
    assert len(digests) == 5
    assert fingerprint("a", EvaluationSettings()) == fingerprint("a", EvaluationSettings())


def _hold(file: Path, ready) -> None:
    with exclusive(file):
        ready.set()
        signal.pause()


def test_a_second_process_is_refused_with_pid_and_host_until_the_first_is_killed(tmp_path):
    file = tmp_path / ".lock"
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold, args=(file, ready))
    process.start()
    try:
        assert ready.wait(60)
        expected = f"in use by process {process.pid} on {socket.gethostname()}"
        with pytest.raises(StageError, match=expected), exclusive(file):
            pass
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    with exclusive(file):
        assert str(os.getpid()) in file.read_text()


def test_provenance_keeps_every_run(tmp_path):
    file = tmp_path / "provenance.toml"
    for comment in ("first", 'with "quotes"'):
        provenance.record(file, ["run_ppp.py", "--do", "all"], now=NOW, facts={"comment": comment})
    runs = tomllib.loads(file.read_text())["run"]
    assert [run["comment"] for run in runs] == ["first", 'with "quotes"']
    assert runs[0]["command"] == ["run_ppp.py", "--do", "all"]
    assert runs[0]["versions"]["numpy"]
    assert runs[0]["host"] == socket.gethostname()


@pytest.fixture
def apps(tmp_path, monkeypatch):
    folder = tmp_path / "experiments" / "worms" / "setups" / "setup01"
    folder.mkdir(parents=True)
    (folder / "default.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(setups, "app_folders", lambda: [tmp_path / "experiments"])
    return tmp_path


@pytest.mark.usefixtures("apps")
def test_setups_are_found_and_mistakes_get_the_nearest_name():
    setup = setups.find_setup("worms", "setup01")
    assert setups.find_config("default.toml", setup) == setup.folder / "default.toml"
    with pytest.raises(ConfigError, match="no such app; did you mean worms"):
        setups.find_setup("worm", "setup01")
    with pytest.raises(ConfigError, match="no such setup of worms; did you mean setup01"):
        setups.find_setup("worms", "setup1")
    with pytest.raises(ConfigError, match=r"no such configuration file; did you mean default.toml"):
        setups.find_config("defalt.toml", setup)


def test_a_configuration_in_the_working_directory_comes_first(apps):
    (apps / "default.toml").write_text("")
    setup = setups.find_setup("worms", "setup01")
    assert setups.find_config("default.toml", setup) == apps / "default.toml"


def test_code_of_a_setup_that_cannot_be_imported_is_named(tmp_path):
    assert setups.load_code(tmp_path, "torch_model.py") is None
    (tmp_path / "torch_model.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(
        ConfigError, match=r"torch_model.py: cannot be imported: ModuleNotFoundError"
    ):
        setups.load_code(tmp_path, "torch_model.py")

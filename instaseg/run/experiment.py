"""The folder of one experiment: where everything lies, by name.

::

    <root>/<app>_<setup>_<yymmdd>_<hhmmss>/
      config.toml  provenance.toml  run.log
      setup/                                     code of the setup, as it was
      network/                                   what mknet wrote
      autoencoder/{checkpoints,logs}/            what train_autoencoder wrote
      train/{checkpoints,snapshots,logs}/
      <dataset>/predicted/<checkpoint>/<sample>.zarr
      <dataset>/instances/<checkpoint>/<parameters>/<sample>.zarr
      <dataset>/evaluated/<checkpoint>/<parameters>/<sample>.toml, summary.csv
      <dataset>/export/<sample>.tif
      report/index.html

``<dataset>`` is ``val`` or ``test``, or ``val_on_train``, ``test_on_train`` where the training data
take their place.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from instaseg.errors import ConfigError


@dataclass(frozen=True)
class Experiment:
    """Paths below one experiment folder; creates nothing."""

    folder: Path

    @property
    def config_file(self) -> Path:
        """The resolved configuration the experiment was created with."""
        return self.folder / "config.toml"

    @property
    def provenance_file(self) -> Path:
        """Commands, versions and code of every run."""
        return self.folder / "provenance.toml"

    @property
    def log_file(self) -> Path:
        """All messages of all runs."""
        return self.folder / "run.log"

    @property
    def lock_file(self) -> Path:
        """Held while a process works on the experiment."""
        return self.folder / ".lock"

    @property
    def setup_code(self) -> Path:
        """Copies of the setup's Python files."""
        return self.folder / "setup"

    @property
    def network_folder(self) -> Path:
        """What `mknet` wrote."""
        return self.folder / "network"

    @property
    def train_folder(self) -> Path:
        """What `train` wrote."""
        return self.folder / "train"

    @property
    def autoencoder_folder(self) -> Path:
        """What `train_autoencoder` wrote: ``checkpoints/`` and ``logs/``."""
        return self.folder / "autoencoder"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of the training."""
        return self.train_folder / "checkpoints"

    @property
    def report_folder(self) -> Path:
        """Pictures and ``index.html``."""
        return self.folder / "report"

    def validation_results(self, dataset: str) -> Path:
        """Return the table of all validated checkpoints and parameters."""
        return self.folder / dataset / "validation.csv"

    def best_file(self, dataset: str) -> Path:
        """Return the file with the best checkpoint and its parameters."""
        return self.folder / dataset / "best.toml"

    def prediction(self, dataset: str, checkpoint: int, sample: str) -> Path:
        """Return the zarr of one sample's predicted heads."""
        return self.folder / dataset / "predicted" / str(checkpoint) / f"{sample}.zarr"

    def instances(self, dataset: str, checkpoint: int, parameters: str, sample: str) -> Path:
        """Return the zarr of one sample's instances."""
        folder = self.folder / dataset / "instances" / str(checkpoint) / parameters
        return folder / f"{sample}.zarr"

    def evaluated(self, dataset: str, checkpoint: int, parameters: str) -> Path:
        """Return the folder of scores of one checkpoint and parameter set."""
        return self.folder / dataset / "evaluated" / str(checkpoint) / parameters

    def exported(self, dataset: str) -> Path:
        """Return the folder of files for other programs."""
        return self.folder / dataset / "export"

    def baseline(self, dataset: str, name: str) -> Path:
        """Return the folder of scores of a baseline on the same samples."""
        return self.folder / dataset / "evaluated" / f"baseline_{name}"


def new_experiment(root: Path, app: str, setup: str, now: datetime) -> Experiment:
    """Return the experiment that a run started at `now` creates; nothing is written.

    A second one of the same second gets a number.
    """
    name = f"{app}_{setup}_{now:%y%m%d_%H%M%S}"
    names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return Experiment(next(root / name for name in names if not (root / name).exists()))


def latest_experiment(root: Path) -> Path | None:
    """Return the experiment folder below `root` that was begun last, if there is one."""
    begun = sorted((file.stat().st_mtime_ns, file.parent) for file in root.glob("*/config.toml"))
    return begun[-1][1] if begun else None


def open_experiment(folder: Path) -> Experiment:
    """Return the experiment in `folder`.

    Raises
    ------
    ConfigError
        If there is none.
    """
    experiment = Experiment(folder)
    if not experiment.config_file.is_file():
        found = "no such folder"
        if folder.exists():
            found = "an empty or other folder" if folder.is_dir() else "a file"
        raise ConfigError(
            f"-id {folder}: expected an experiment folder (with config.toml), found {found}; give"
            " the path a run printed as 'experiment', or leave out -id to begin a new one"
        )
    return experiment

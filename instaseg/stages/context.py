"""What a stage is given: configuration, experiment folder, options, data sets, method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from instaseg.blockwise.scheduler import Workers
from instaseg.config.schema import Config
from instaseg.errors import ConfigError
from instaseg.io.samples import Sample, find_samples
from instaseg.methods.base import Method
from instaseg.methods.build import MethodSpec
from instaseg.run.experiment import Experiment
from instaseg.run.folds import dealt
from instaseg.run.sweep import LABELLING, SWEPT_TABLES, ParameterSet, parameter_set
from instaseg.settings import Table
from instaseg.training.ranks import ALONE, Ranks

Role = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Options:
    """What the command line says beside the configuration.

    Parameters
    ----------
    checkpoint : int, optional
        Iteration of the checkpoint to use.
    test_checkpoint : {"best", "last"}, optional
        Which checkpoint predicts, where `checkpoint` is not given.
    samples : tuple of str
        Names of the test samples to work on; all if empty.
    stands_in : dict
        Data set that takes the place of another, by role.
    existing : {"keep", "overwrite"}
        What happens to finished work.
    fixed : dict
        Values of swept tables that the command line sets, by dotted name.
    most_samples : int, optional
        Number of samples of each data set that are used.
    others : tuple of Path
        Experiment folders to compare with.
    """

    checkpoint: int | None = None
    test_checkpoint: Literal["best", "last"] | None = None
    samples: tuple[str, ...] = ()
    stands_in: Mapping[Role, Role] = field(default_factory=dict)
    existing: Literal["keep", "overwrite"] = "keep"
    fixed: Mapping[str, Any] = field(default_factory=dict)
    most_samples: int | None = None
    others: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Samples that are worked on, and the name of their folder in the experiment."""

    name: str
    samples: tuple[Sample, ...]

    def labelled(self) -> Dataset:
        """Return the samples that have ground truth."""
        return Dataset(self.name, tuple(s for s in self.samples if s.labels is not None))


@dataclass(frozen=True)
class Context:
    """Everything a stage may read; stages hand down to functions only what these need."""

    config: Config
    experiment: Experiment
    setup_code: Path
    options: Options
    workers: Workers
    ranks: Ranks = ALONE

    @property
    def method_spec(self) -> MethodSpec:
        """What the method is built from."""
        return MethodSpec(self.config.method, self.config.model, self.config.data)

    @cached_property
    def method(self) -> Method:
        """The method of the configuration."""
        return self.method_spec.build()

    def with_all_samples(self) -> Context:
        """Return the same for all samples, whatever ``--sample`` and ``--debug_args`` say."""
        return replace(self, options=replace(self.options, samples=(), most_samples=None))

    def for_workers(self) -> Context:
        """Return the same without the method, for other processes, which build it themselves.

        Once it was asked for it is kept here, and would be pickled with all it has worked out.
        """
        return replace(self)

    def source(self, role: Role) -> Role:
        """Return the data set that has a role: its own, or what takes its place."""
        return self.options.stands_in.get(role, role)

    def folder(self, source: Role) -> Path | None:
        """Return the configured folder of a data set, None if there is none."""
        folder: Path | None = getattr(self.config.data, f"{source}_data")
        return folder

    def dataset_name(self, role: Role) -> str:
        """Return the name of a role's folder in the experiment, such as ``test_on_train``."""
        source = self.source(role)
        return role if source == role else f"{role}_on_{source}"

    def dataset(self, role: Role) -> Dataset:
        """Return the samples of a role.

        Raises
        ------
        ConfigError
            If no folder is configured for it.
        DataError
            If the folder is missing or empty, or lacks a sample that was asked for.
        """
        source, split = self.source(role), self.config.data.split
        divided = split.folds > 0 and source != "test"
        origin: Role = "train" if divided else source
        folder = self.folder(origin)
        if folder is None:
            raise ConfigError(
                f"[data] {origin}_data: expected a folder of samples, found nothing; give"
                f" --{origin}-data FOLDER or set it in the configuration"
            )
        names = self.options.samples if role == "test" else ()
        samples = find_samples(folder, self.config.data, names=names, truth=self.method_spec.truth)
        if divided:
            there = [sample.name for sample in samples]
            held_out = dealt(there, split.folds, where=str(folder))[split.fold - 1]
            samples = [s for s in samples if (s.name in held_out) == (source == "val")]
        return Dataset(self.dataset_name(role), tuple(samples[: self.options.most_samples]))

    @property
    def swept_tables(self) -> dict[str, Table]:
        """The tables whose values validation may choose, by name."""
        return {name: getattr(self.config, name) for name in SWEPT_TABLES}

    def parameters(self, values: Mapping[str, Any]) -> ParameterSet:
        """Return a parameter set: the configuration, `values`, then the command line's values.

        A value of the command line is for images of all types.
        """
        fixed = self.options.fixed
        of_type = self.config.vote_instances.OF_TYPE.items()
        replaced = {f"{LABELLING}.{own}" for key, own in of_type if f"{LABELLING}.{key}" in fixed}
        kept = {name: value for name, value in values.items() if name not in replaced}
        return parameter_set(self.swept_tables, {**kept, **fixed})

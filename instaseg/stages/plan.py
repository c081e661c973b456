"""Checks before any work: each stage finds what it reads, shapes fit, data are in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from instaseg.data.check import check_augmentation, check_samples
from instaseg.errors import ConfigError, DataError, InstasegError
from instaseg.inference.augmentation import symmetries
from instaseg.io.samples import Sample
from instaseg.models.shapes import check_input_shape
from instaseg.run.experiment import Experiment, latest_experiment
from instaseg.run.setups import load_code
from instaseg.run.sweep import combinations
from instaseg.stages.context import Context, Role
from instaseg.stages.folds import find_folds
from instaseg.stages.quality import check_metric
from instaseg.stages.table import STAGES, Stage


@dataclass(frozen=True)
class Artifact:
    """Something a stage writes and another reads.

    Parameters
    ----------
    description : str
        For messages.
    pattern : str
        Glob below the experiment folder; a match means it exists.
    made_from_it : str, optional
        Glob of what was made from it; a match means that it need not be there any more.
    """

    description: str
    pattern: str
    made_from_it: str | None = None

    def is_in(self, folder: Path) -> bool:
        """Return whether it is in an experiment folder, or no longer needed there."""
        patterns = filter(None, (self.pattern, self.made_from_it))
        return any(any(folder.glob(pattern)) for pattern in patterns)


Labels = Literal["required", "optional"]
FOLDS = "folds"
"""Stands for the samples of all folds where data sets are named."""
INSTANCES = "*/instances/*/*/*.zarr/vote_instances"


ARTIFACTS: dict[str, Artifact] = {
    "network": Artifact("a network summary", "network/network.toml"),
    "checkpoints": Artifact("a checkpoint", "train/checkpoints/*.pt"),
    "validation": Artifact("a validated checkpoint", "val*/best.toml"),
    "predictions": Artifact("a prediction", "*/predicted/*/*.zarr", made_from_it=INSTANCES),
    "instances": Artifact("instances", INSTANCES),
    "scores": Artifact("scores", "*/evaluated/*/*/summary.csv"),
}


VALIDATING = frozenset({"validate", "validate_checkpoints", "cross_validate"})
PREDICTING = VALIDATING | {"predict"}
BY_ONE_CHECKPOINT = frozenset(
    {"validate", "predict", "label", "postprocess", "evaluate", "visualize", "export", "compare"}
)


def check(stages: Sequence[Stage], context: Context) -> None:
    """Check everything that can be checked before work.

    Raises
    ------
    InstasegError
        If anything is wrong; lists all of it.
    """
    faults: list[InstasegError] = []
    for part in (check_history, check_sweep, check_network, check_data):
        try:
            part(stages, context)
        except InstasegError as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise ConfigError(_together(list(map(str, faults))))


def _together(faults: Sequence[str]) -> str:
    """Return one message for several faults."""
    if len(faults) == 1:
        return faults[0]
    return "\n- ".join([f"{len(faults)} things are wrong:", *faults])


def check_history(stages: Sequence[Stage], context: Context) -> None:
    """Check that what earlier runs should have written is there, and the checkpoint asked for.

    Raises
    ------
    ConfigError, CheckpointError, StageError
        If it is not.
    """
    check_artifacts(stages, context.experiment)
    names, options = {stage.name for stage in stages}, context.options
    if not names & BY_ONE_CHECKPOINT:
        return
    from instaseg.stages.selection import chosen_or_last, select

    if options.checkpoint is not None:
        # Also where training comes first: which checkpoints it will keep is not known yet.
        chosen_or_last(context)
    elif options.test_checkpoint == "best" and not names & {
        "train",
        "validate",
        "validate_checkpoints",
    }:
        select(context)


def check_sweep(stages: Sequence[Stage], context: Context) -> None:
    """Check that values of every parameter set go together, and the score that chooses is one.

    Raises
    ------
    ConfigError
        If they do not, or it is none.
    """
    names = {stage.name for stage in stages}
    if names & {"validate", "validate_checkpoints"} and context.config.validation.prediction_only:
        check_metric(context)
    if names & VALIDATING:
        for values in combinations(context.config.validation):
            context.parameters(values)


def check_artifacts(stages: Sequence[Stage], experiment: Experiment) -> None:
    """Check that what each stage reads exists or is written by an earlier one.

    Raises
    ------
    ConfigError
        If something is missing; names the stage that would write it.
    """
    written: set[str] = set()
    for stage in stages:
        for name in stage.reads:
            artifact = ARTIFACTS[name]
            if name not in written and not artifact.is_in(experiment.folder):
                writers = " or ".join(s.name for s in STAGES if name in s.writes)
                raise ConfigError(
                    f"--do {stage.name}: expected {artifact.description}"
                    f" {_where(experiment, artifact)}; run {writers} before it, or give the"
                    f" experiment that has it with -id{_latest(experiment)}"
                )
        written.update(stage.writes)


def _where(experiment: Experiment, artifact: Artifact) -> str:
    if experiment.folder.exists():
        return f"in {experiment.folder / artifact.pattern}, found none"
    return "in the experiment, but without -id a new one begins, which has none"


def _latest(experiment: Experiment) -> str:
    """Return a hint at the last experiment, where the stages are not for one that exists."""
    latest = None if experiment.folder.exists() else latest_experiment(experiment.folder.parent)
    return "" if latest is None else f" (the latest is {latest})"


def check_data(stages: Sequence[Stage], context: Context) -> None:
    """Read every sample the stages need once, and check the network's shapes against them.

    Raises
    ------
    DataError, ConfigError
        If anything is wrong; lists all of it.
    """
    needs = {need for stage in stages for need in _data_of(stage, context)}
    if _has_validation_loss(stages, context):
        needs.add("val")
    problems = []
    for need in sorted(needs):
        labels: Labels = "required" if need.endswith("+labels") else "optional"
        if labels == "optional" and f"{need}+labels" in needs:
            continue
        try:
            check_samples(
                _samples_of(need.partition("+")[0], context),
                context.config.data,
                labels=labels,
                least_shape=_least_shape(context),
                instances=_instances(need, stages, context),
            )
        except InstasegError as error:
            problems.append(str(error))
    if problems:
        raise DataError(_together(problems))


def _instances(
    need: str, stages: Sequence[Stage], context: Context
) -> Literal["may_overlap", "separate"]:
    """Return whether instances of a data set may overlap: where the loss sees them, by method.

    Segmenting and scoring overlapping data with a method that keeps instances apart is allowed.
    """
    role = need.partition("+")[0]
    learnt = role == "train" or (role == "val" and _has_validation_loss(stages, context))
    return "separate" if learnt and not context.method.overlapping else "may_overlap"


def _data_of(stage: Stage, context: Context) -> tuple[str, ...]:
    """Return the data sets a stage needs; for cross validation the configuration chooses."""
    if stage.name != "cross_validate":
        return stage.data
    if context.config.validation.folds != "data_sets":
        return (f"{FOLDS}+labels",)
    folders = context.config.data.cross_val_folders
    return tuple(f"{folder.removesuffix('_data')}+labels" for folder in folders)


def _samples_of(name: str, context: Context) -> list[Sample]:
    """Return the samples of a data set, or of all folds of cross validation."""
    if name == FOLDS:
        return [sample for fold in find_folds(context) for sample in fold.dataset.samples]
    role: Role = name  # type: ignore[assignment]
    return list(context.dataset(role).samples)


def _has_validation_loss(stages: Sequence[Stage], context: Context) -> bool:
    """Return whether training will look at the validation data."""
    config = context.config
    trains = any(stage.name in ("train", "train_autoencoder") for stage in stages)
    return trains and config.training.val_log_step > 0 and config.data.val_data is not None


def check_network(stages: Sequence[Stage], context: Context) -> None:
    """Check what runs the network: shapes, device, and code that the setup brings.

    Raises
    ------
    ConfigError
        If shapes do not fit its levels, there is no such device, or code cannot be imported.
    """
    names = {stage.name for stage in stages}
    model = context.config.model
    if names & {"mknet", "train", "train_autoencoder"}:
        check_input_shape(model.train_input_shape, model, "model.train_input_shape")
    if "train" in names:
        check_augmentation(
            context.config.training.augmentation,
            context.config.data,
            instances="may_overlap" if context.method.overlapping else "separate",
        )
    if names & {"mknet", *PREDICTING}:
        check_input_shape(model.test_input_shape, model, "model.test_input_shape")
        _check_symmetries(context)
    if names & {"mknet", "train", *PREDICTING}:
        load_code(context.setup_code, "torch_model.py")
    if "train" in names:
        load_code(context.setup_code, "torch_loss.py")
        if context.method.coding is not None:
            from instaseg.stages.decoders import check_decoder

            check_decoder(context, trained_before="train_autoencoder" in names)
    if (
        names & {"train", "train_autoencoder", *PREDICTING}
        and context.config.general.device == "cuda"
    ):
        from instaseg.training.devices import choose_device

        choose_device("cuda")


def _check_symmetries(context: Context) -> None:
    """Check that every head can be predicted in the turned positions that are asked for."""
    config = context.config
    for symmetry in symmetries(config.prediction.symmetries, config.data.ndim):
        for head in context.method.heads:
            head.turn(np.zeros((head.channels, *(1,) * config.data.ndim)), symmetry)


def _least_shape(context: Context) -> tuple[int, ...]:
    """Return the smallest image that holds what the method looks at around a voxel."""
    return tuple(2 * reach + 1 for reach in context.method.context)

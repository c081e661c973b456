"""Checks before any work: each stage finds what it reads, shapes fit, data are in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from instaseg.data.check import check_samples
from instaseg.errors import ConfigError, DataError
from instaseg.models.shapes import check_input_shape
from instaseg.run.experiment import Experiment
from instaseg.stages.context import Context, Role
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
    """

    description: str
    pattern: str


ARTIFACTS: dict[str, Artifact] = {
    "network": Artifact("a network summary", "network/*"),
    "checkpoints": Artifact("a checkpoint", "train/checkpoints/*"),
    "validation": Artifact("a validated checkpoint", "val*/best.toml"),
    "predictions": Artifact("a prediction", "*/predicted/*/*.zarr"),
    "instances": Artifact("instances", "*/instances/*/*/*.zarr"),
    "scores": Artifact("scores", "*/evaluated/*/*/summary.csv"),
}


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
            if name not in written and not any(experiment.folder.glob(artifact.pattern)):
                writers = " or ".join(s.name for s in STAGES if name in s.writes)
                raise ConfigError(
                    f"--do {stage.name}: expected {artifact.description} in"
                    f" {experiment.folder / artifact.pattern}, found none; run {writers} before it,"
                    " or give the experiment that has it with -id"
                )
        written.update(stage.writes)


def check_data(stages: Sequence[Stage], context: Context) -> None:
    """Read every sample the stages need once, and check the network's shapes against them.

    Raises
    ------
    DataError, ConfigError
        If anything is wrong; lists all of it.
    """
    needs = {need for stage in stages for need in stage.data}
    problems = []
    for need in sorted(needs):
        role: Role = need.partition("+")[0]  # type: ignore[assignment]
        labels: Literal["required", "optional"] = (
            "required" if need.endswith("+labels") else "optional"
        )
        if labels == "optional" and f"{need}+labels" in needs:
            continue
        try:
            check_samples(
                context.dataset(role).samples,
                context.config.data,
                labels=labels,
                least_shape=_least_shape(context),
            )
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))


def check_network(stages: Sequence[Stage], context: Context) -> None:
    """Check the shapes of the network that the stages run, before anything is written."""
    names = {stage.name for stage in stages}
    model = context.config.model
    if names & {"mknet", "train"}:
        check_input_shape(model.train_input_shape, model, "model.train_input_shape")
    if names & {"mknet", "predict", "validate", "validate_checkpoints", "cross_validate"}:
        check_input_shape(model.test_input_shape, model, "model.test_input_shape")


def _least_shape(context: Context) -> tuple[int, ...]:
    """Return the smallest image that holds what the method looks at around a voxel."""
    return tuple(2 * reach + 1 for reach in context.method.context)

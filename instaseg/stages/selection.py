"""Which checkpoint and parameters are used, and where validation keeps its verdict.

``best.toml`` holds, for every validated checkpoint, its best parameters and their score, and which
checkpoint is the best of them::

    metric = "confusion_matrix.avS"
    checkpoint = 1000
    [checkpoints.1000]
    score = 0.71              # higher is better: negative for metrics that count errors, -inf
                              # where no sample has the score
    digest = "..."            # of the checkpoint's file
    [checkpoints.1000.values]
    "vote_instances.patch_threshold" = 0.6
"""

from __future__ import annotations

import functools
import logging
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instaseg.errors import CheckpointError, StageError
from instaseg.io.text import to_toml, write_text
from instaseg.metrics.config import direction
from instaseg.run.sweep import ParameterSet, worth
from instaseg.stages.context import Context
from instaseg.training.checkpoints import checkpoint_digest, checkpoint_path, list_checkpoints

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """A checkpoint and the parameters that go with it."""

    checkpoint: int
    parameters: ParameterSet


def select(context: Context) -> Selection:
    """Return the checkpoint and parameters for predict, label, postprocess and evaluate.

    ``--checkpoint N`` names the checkpoint; else it is the best one validated, or the last one
    where none was validated or ``--test-checkpoint last`` asks for it. Parameters are the best ones
    validated for that checkpoint, else the configured ones; ``--set`` wins over both.

    Raises
    ------
    CheckpointError
        If the checkpoint does not exist.
    StageError
        If the best one is asked for and none was validated.
    """
    verdicts = read_verdicts(context)
    checkpoint = _checkpoint(context, verdicts)
    values = verdicts.get(checkpoint, {}).get("values", {})
    parameters = context.parameters(values)
    logger.debug(
        "checkpoint %d, parameters %s (%s)",
        checkpoint,
        parameters.name,
        "validated" if checkpoint in verdicts else "as configured; not validated",
    )
    return Selection(checkpoint, parameters)


def _checkpoint(context: Context, verdicts: Mapping[int, Mapping[str, Any]]) -> int:
    wanted = context.options.test_checkpoint
    if context.options.checkpoint is None and verdicts and wanted != "last":
        return _best(verdicts)
    if wanted == "best":
        raise StageError(
            "--test-checkpoint best: expected a validated checkpoint, found none; run"
            " validate_checkpoints before it, or use --test-checkpoint last"
        )
    return chosen_or_last(context)


def chosen_or_last(context: Context) -> int:
    """Return the checkpoint ``--checkpoint`` names, else the last one.

    Raises
    ------
    CheckpointError
        If it is not there.
    """
    wanted = context.options.checkpoint
    if wanted is None:
        return last_checkpoint(context)
    there = list_checkpoints(context.experiment.checkpoints)
    if wanted not in there:
        raise CheckpointError(
            f"--checkpoint {wanted}: no such checkpoint in {context.experiment.checkpoints}; there"
            f" are {', '.join(map(str, there)) or 'none'}"
        )
    return wanted


def _best(verdicts: Mapping[int, Mapping[str, Any]]) -> int:
    """Return the checkpoint with the highest score, the earlier one of equals."""
    return max(verdicts, key=lambda number: (verdicts[number]["score"], -number))


def last_checkpoint(context: Context) -> int:
    """Return the newest checkpoint.

    Raises
    ------
    CheckpointError
        If there is none.
    """
    there = list_checkpoints(context.experiment.checkpoints)
    if not there:
        raise CheckpointError(
            f"{context.experiment.checkpoints}: expected a checkpoint, found none; run train"
        )
    return there[-1]


def read_verdicts(context: Context) -> dict[int, dict[str, Any]]:
    """Return the verdict for each checkpoint that is still the one that was validated."""
    metric = choosing_metric(context)
    stored = _stored(best_file(context), metric)
    current = {
        n: verdict for n, verdict in stored.items() if verdict["digest"] == digest(context, n)
    }
    if len(current) < len(stored):
        logger.warning(
            "%s: %d of %d validated checkpoints were trained again or deleted since; ignored",
            best_file(context),
            len(stored) - len(current),
            len(stored),
        )
    return current


def choosing_metric(context: Context) -> str:
    """Return the score by which validation chooses a checkpoint."""
    validation = context.config.validation
    if validation.prediction_only:
        return validation.prediction_metric
    return context.config.evaluation.metric


def best_file(context: Context) -> Path:
    """Return where validation keeps its verdict."""
    return context.experiment.best_file(context.dataset_name("val"))


def digest(context: Context, checkpoint: int) -> str:
    """Return the digest of a checkpoint's file, empty if it is not there."""
    path = checkpoint_path(context.experiment.checkpoints, checkpoint)
    if not path.exists():
        return ""
    state = path.stat()
    return _digest(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _digest(path: Path, size: int, changed: int) -> str:
    """Return the digest of a file as long as its size and time of change stay the same."""
    del size, changed
    return checkpoint_digest(path)


def _stored(file: Path, metric: str) -> dict[int, dict[str, Any]]:
    """Return the verdicts of a file; none where another metric chose them."""
    if not file.exists():
        return {}
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        chosen_by, checkpoints = table["metric"], table["checkpoints"]
    except (ValueError, KeyError) as error:
        raise StageError(
            f"{file}: expected the verdict of validate_checkpoints, found a damaged file ({error});"
            " delete it and run validate_checkpoints again"
        ) from error
    if chosen_by != metric:
        logger.warning("%s was chosen by %s, not %s; ignored", file, chosen_by, metric)
        return {}
    return {int(number): verdict for number, verdict in checkpoints.items()}


def write_verdicts(context: Context, best_rows: Mapping[int, Mapping[str, Any]]) -> None:
    """Keep the best parameters of newly validated checkpoints beside those validated before.

    Parameters
    ----------
    context : Context
        Configuration and experiment.
    best_rows : mapping
        For each checkpoint, its best row: ``values`` and a score by the configured metric.
    """
    metric = choosing_metric(context)
    verdicts = read_verdicts(context)
    for number, row in best_rows.items():
        verdicts[number] = {
            "score": worth(row[metric], direction(metric)),
            "digest": digest(context, number),
            "values": dict(row["values"]),
        }
    table = {
        "metric": metric,
        "checkpoint": _best(verdicts),
        "checkpoints": {str(number): verdicts[number] for number in sorted(verdicts)},
    }
    write_text(best_file(context), to_toml(table))

"""``--do validate_checkpoints``: the best checkpoint with the best parameters."""

from __future__ import annotations

from collections.abc import Sequence

from instaseg.errors import CheckpointError
from instaseg.metrics.config import direction
from instaseg.run.sweep import worth
from instaseg.stages.context import Context
from instaseg.stages.image_types import rows_with_types
from instaseg.stages.quality import quality_table
from instaseg.stages.results.table import RESULTS
from instaseg.stages.selection import best_file, choosing_metric, last_checkpoint, write_verdicts
from instaseg.stages.tables import text_table, write_table
from instaseg.stages.validation import Row, best, require_value, score_samples, score_table
from instaseg.training.checkpoints import list_checkpoints

FOREGROUND, COUNTS = "foreground.IoU", "count.accuracy"


def run(context: Context) -> str:
    """Score every checkpoint with every parameter set; keep the best of each and of all."""
    return validate(context, chosen_checkpoints(context))


def chosen_checkpoints(context: Context) -> list[int]:
    """Return the checkpoints ``[validation] checkpoints`` names.

    Raises
    ------
    CheckpointError
        If one of them is not there.
    """
    there = list_checkpoints(context.experiment.checkpoints)
    wanted = context.config.validation.checkpoints
    if wanted == "all":
        last_checkpoint(context)
        return there
    missing = sorted(set(wanted) - set(there))
    if missing:
        raise CheckpointError(
            f"[validation] checkpoints: no checkpoint {', '.join(map(str, missing))} in"
            f" {context.experiment.checkpoints}; there are {', '.join(map(str, there)) or 'none'}"
        )
    return list(wanted)


def validate(context: Context, checkpoints: Sequence[int]) -> str:
    """Score checkpoints, write the table and the verdict, and return them for the user."""
    dataset = context.dataset("val")
    metric, noun = choosing_metric(context), RESULTS[context.method.result].noun
    if context.config.validation.prediction_only:
        rows = quality_table(context, dataset, checkpoints)
        what = f"predictions, no {noun}"
    else:
        jobs = score_samples(context, dataset, checkpoints)
        rows = score_table(context, jobs) + rows_with_types(context, jobs, metric)
        what = noun
    chosen = require_value(best(rows, metric), metric, f"{dataset.name} data")
    plain = [{name: value for name, value in row.items() if name != "values"} for row in rows]
    write_table(context.experiment.validation_results(dataset.name), plain)
    of_each = {c: best([r for r in rows if r["checkpoint"] == c], metric) for c in checkpoints}
    write_verdicts(context, of_each)
    return "\n".join(
        [
            f"validation on {len(dataset.samples)} samples of {dataset.name} ({what}):",
            text_table(_shown(rows, metric)),
            f"best: checkpoint {chosen['checkpoint']}, parameters {chosen['parameters']}"
            f" ({best_file(context)})",
        ]
    )


def _shown(rows: Sequence[Row], metric: str) -> list[Row]:
    """Return the columns a terminal has room for, the best 20 rows first."""
    better = direction(metric)
    first = sorted(rows, key=lambda row: -worth(row[metric], better))[:20]
    beside = [n for n in (FOREGROUND, COUNTS) if n in rows[0] and n != metric]
    return [
        {name: r[name] for name in ("checkpoint", "parameters", metric, *beside)} for r in first
    ]

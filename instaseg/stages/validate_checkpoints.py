"""``--do validate_checkpoints``: the best checkpoint with the best parameters."""

from __future__ import annotations

from collections.abc import Sequence

from instaseg.errors import CheckpointError
from instaseg.metrics.config import direction
from instaseg.stages.context import Context
from instaseg.stages.selection import best_file, last_checkpoint, write_verdicts
from instaseg.stages.tables import text_table, write_table
from instaseg.stages.validation import Row, best, score_table
from instaseg.training.checkpoints import list_checkpoints


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
    rows = score_table(context, dataset, checkpoints)
    plain = [{name: value for name, value in row.items() if name != "values"} for row in rows]
    write_table(context.experiment.validation_results(dataset.name), plain)
    of_each = {c: best(context, [r for r in rows if r["checkpoint"] == c]) for c in checkpoints}
    write_verdicts(context, of_each)
    chosen = best(context, rows)
    return "\n".join(
        [
            f"validation on {len(dataset.samples)} samples of {dataset.name}:",
            text_table(_shown(context, rows)),
            f"best: checkpoint {chosen['checkpoint']}, parameters {chosen['parameters']}"
            f" ({best_file(context)})",
        ]
    )


def _shown(context: Context, rows: Sequence[Row]) -> list[Row]:
    """Return the columns a terminal has room for, the best 20 rows first."""
    metric = context.config.evaluation.metric
    higher = direction(metric) == "higher"
    first = sorted(rows, key=lambda row: row[metric], reverse=higher)[:20]
    return [
        {"checkpoint": r["checkpoint"], "parameters": r["parameters"], metric: r[metric]}
        for r in first
    ]

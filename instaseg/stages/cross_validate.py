"""``--do cross_validate``: parameters chosen on one half of the data score the other half."""

from __future__ import annotations

from typing import cast

from instaseg.stages.context import Context, Role
from instaseg.stages.tables import text_table, write_table
from instaseg.stages.validate_checkpoints import chosen_checkpoints
from instaseg.stages.validation import Row, best, score_table


def run(context: Context) -> str:
    """Score everything on both halves; report each half with the choice of the other."""
    metric = context.config.evaluation.metric
    first, second = (
        cast(Role, folder.removesuffix("_data")) for folder in context.config.data.cross_val_folders
    )
    checkpoints = chosen_checkpoints(context)
    tables = {
        role: score_table(context, context.dataset(role), checkpoints) for role in (first, second)
    }
    rows = [
        _other_half(context, tables, chosen_on=first, scored_on=second),
        _other_half(context, tables, chosen_on=second, scored_on=first),
    ]
    file = context.experiment.folder / "cross_validation.csv"
    write_table(file, rows)
    mean = sum(row[metric] for row in rows) / 2
    return f"cross validation ({file}):\n{text_table(rows)}\nmean {metric}: {mean:.3f}"


def _other_half(
    context: Context, tables: dict[Role, list[Row]], *, chosen_on: Role, scored_on: Role
) -> Row:
    metric = context.config.evaluation.metric
    chosen = best(context, tables[chosen_on])
    same = next(
        row
        for row in tables[scored_on]
        if (row["checkpoint"], row["parameters"]) == (chosen["checkpoint"], chosen["parameters"])
    )
    return {
        "chosen on": chosen_on,
        "scored on": scored_on,
        "checkpoint": chosen["checkpoint"],
        "parameters": chosen["parameters"],
        metric: same[metric],
    }

"""``--do cross_validate``: each fold is scored with what was chosen on the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from instaseg.metrics.ratios import known_mean
from instaseg.stages.context import Context
from instaseg.stages.folds import find_folds
from instaseg.stages.tables import text_table, write_table
from instaseg.stages.validate_checkpoints import chosen_checkpoints
from instaseg.stages.validation import Job, Row, best, require_value, score_samples, score_table


def run(context: Context) -> str:
    """Score everything on all folds; report each with the choice of the others, and the mean."""
    folds, checkpoints = find_folds(context), chosen_checkpoints(context)
    jobs = {fold.name: score_samples(context, fold.dataset, checkpoints) for fold in folds}
    rows = [_left_out(context, jobs, fold.name) for fold in folds]
    file = context.experiment.folder / "cross_validation.csv"
    write_table(file, rows)
    metric = context.config.evaluation.metric
    values = [row[metric] for row in rows]
    shown = ("chosen on", "scored on", "samples", "checkpoint", "parameters", metric)
    return "\n".join(
        [
            f"cross validation ({file}):",
            text_table([{name: row[name] for name in shown} for row in rows]),
            f"mean {metric}: {known_mean(values):.3f}",
        ]
    )


def _left_out(context: Context, jobs: Mapping[str, Sequence[Job]], scored_on: str) -> Row:
    """Return the scores of one fold with the checkpoint and parameters best on all others."""
    others = [name for name in jobs if name != scored_on]
    rows = score_table(context, [job for name in others for job in jobs[name]])
    metric = context.config.evaluation.metric
    chosen = require_value(best(rows, metric), metric, f"folds {', '.join(others)}")
    same = next(
        row
        for row in score_table(context, jobs[scored_on])
        if (row["checkpoint"], row["parameters"]) == (chosen["checkpoint"], chosen["parameters"])
    )
    return {
        "chosen on": "+".join(others),
        "scored on": scored_on,
        "samples": len({job.sample.name for job in jobs[scored_on]}),
        **{name: value for name, value in same.items() if name != "values"},
    }

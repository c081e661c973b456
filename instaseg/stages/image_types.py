"""Parameters that images of different types have values of their own of.

Images have a type where the array of the image has an attribute ``type``. A table
``[vote_instances]`` that knows types has a mapping ``OF_TYPE`` from a key to the key that holds its
values by type, as texts such as ``"cort 1.5"``, and a method ``for_type`` that gives the table for
an image of a type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from instaseg.metrics.config import direction
from instaseg.run.sweep import LABELLING
from instaseg.stages.context import Context
from instaseg.stages.validation import Job, Row, average_row, best, score_table


def rows_with_types(context: Context, jobs: Sequence[Job], metric: str) -> list[Row]:
    """Return a row for each checkpoint where the types of its images want values of their own.

    Parameters
    ----------
    context : Context
        Configuration and experiment.
    jobs : sequence of Job
        What was scored, of all checkpoints and parameter sets.
    metric : str
        Score that chooses.

    Returns
    -------
    list of dict
        As :func:`~instaseg.stages.validation.score_table` gives them. Other parameters are those of
        the best set for all images; the score is that of all images, each with its type's value.
        Rows that are not better than that set are left out.
    """
    keys = context.config.vote_instances.OF_TYPE
    kinds = sorted({job.sample.kind for job in jobs if job.sample.kind is not None})
    rows = []
    for key, of_type in keys.items():
        for checkpoint in sorted({job.checkpoint for job in jobs}) if kinds else ():
            own = [job for job in jobs if job.checkpoint == checkpoint]
            row = _typed_row(context, own, metric, keys=(key, of_type))
            rows += [row] if row else []
    return rows


def _typed_row(
    context: Context, jobs: Sequence[Job], metric: str, *, keys: tuple[str, str]
) -> Row | None:
    """Return the row of one checkpoint with the best value of a key for each type."""
    key, of_type = (f"{LABELLING}.{name}" for name in keys)
    winner = best(score_table(context, jobs), metric)
    if key not in winner["values"]:
        return None
    rivals = [job for job in jobs if _without(job, key) == _without_key(winner["values"], key)]
    chosen: list[Job] = []
    values: dict[str, float] = {}
    for kind in sorted({job.sample.kind or "" for job in rivals}):
        of_kind = [job for job in rivals if (job.sample.kind or "") == kind]
        first = best(score_table(context, of_kind), metric) if kind else winner
        value = first["values"][key]
        values |= {kind: value} if kind else {}
        chosen += [job for job in of_kind if job.parameters.values[key] == value]
    row = average_row(context, chosen)
    sign = 1 if direction(metric) == "higher" else -1
    if sign * row[metric] <= sign * winner[metric]:
        return None
    complete = {**winner["values"], of_type: [f"{kind} {v:g}" for kind, v in values.items()]}
    return {**row, "values": complete, "parameters": context.parameters(complete).name}


def _without(job: Job, key: str) -> dict[str, Any]:
    return _without_key(job.parameters.values, key)


def _without_key(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}

"""``--do compare``: mean and spread of the scores of several experiments, such as three seeds."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from instaseg.config.load import load_config
from instaseg.errors import StageError
from instaseg.run.experiment import Experiment
from instaseg.stages.context import Context
from instaseg.stages.evaluate import AVERAGE_WORDS, SUMMARY, short_name
from instaseg.stages.selection import select
from instaseg.stages.tables import text_table, write_table

COMPARISON = "comparison.csv"
AVERAGE_ROWS = {"images": "mean", "pooled": "pooled"}
"""Row of ``summary.csv`` for each value of ``[evaluation] average``."""


def run(context: Context) -> str:
    """Write and return each experiment's test scores, their mean and standard deviation."""
    contexts = [context, *(_of_other(context, folder) for folder in context.options.others)]
    found = {_name(each, contexts): _read(each) for each in contexts}
    _check_alike(found)
    average = context.config.evaluation.average
    row = AVERAGE_ROWS[average]
    rows = comparison({name: summary[row] for name, summary in found.items()})
    file = context.experiment.folder / context.dataset_name("test") / COMPARISON
    write_table(file, rows)
    shown = [{short_name(key): value for key, value in each.items()} for each in rows]
    samples = len(found[next(iter(found))]) - len(AVERAGE_ROWS)
    how = f"{samples} samples, {AVERAGE_WORDS[average]}"
    return f"{len(found)} experiments, {how} ({file}):\n{text_table(shown)}"


def _of_other(context: Context, folder: Path) -> Context:
    """Return what the stages of another experiment would be given."""
    experiment = Experiment(folder.absolute())
    config = load_config([experiment.config_file], [])
    return replace(context, config=config, experiment=experiment)


def _name(context: Context, contexts: Sequence[Context]) -> str:
    """Return an experiment's folder, with those above it where another has the same name."""
    folder = context.experiment.folder
    twins = [other for other in contexts if other.experiment.folder.name == folder.name]
    return folder.name if len(twins) == 1 else str(folder)


def _read(context: Context) -> dict[str, dict[str, float]]:
    """Return the rows of an experiment's summary, by sample.

    Raises
    ------
    StageError
        If the chosen checkpoint and parameters were not evaluated.
    """
    selection = select(context)
    folder = context.experiment.evaluated(
        context.dataset_name("test"), selection.checkpoint, selection.parameters.name
    )
    file = folder / SUMMARY
    if not file.is_file():
        raise StageError(
            f"{context.experiment.folder}: expected scores of checkpoint {selection.checkpoint} in"
            f" {file}, found none; run --do evaluate -id {context.experiment.folder}"
        )
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = {row.pop("sample"): row for row in csv.DictReader(lines)}
        if missing := set(AVERAGE_ROWS.values()) - set(rows):
            raise ValueError(f"no row {', '.join(sorted(missing))}")
        return {
            name: {column: float(value) for column, value in row.items()}
            for name, row in rows.items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise StageError(
            f"{file}: expected a table of scores, found a damaged file ({error}); delete it and run"
            f" --do evaluate -id {context.experiment.folder}"
        ) from error


def _check_alike(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Check that all experiments were scored by the same names on the same samples.

    Raises
    ------
    StageError
        If not.
    """
    (first, wanted), *others = found.items()
    columns = set(wanted["mean"])
    for name, summary in others:
        if set(summary) != set(wanted):
            differ = ", ".join(sorted(set(summary) ^ set(wanted))[:5])
            raise StageError(
                f"compare: expected the same test samples in all experiments, found others in"
                f" {first} and {name} ({differ}); evaluate all of them on the same data"
            )
        if set(summary["mean"]) != columns:
            differ = ", ".join(sorted(set(summary["mean"]) ^ columns)[:5])
            raise StageError(
                f"compare: expected the same scores in all experiments, found others in {first} and"
                f" {name} ({differ}); evaluate both with the same [evaluation] summary"
            )


def comparison(scores: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Return the table: one row per experiment, then mean, standard deviation and number.

    The standard deviation is that of a sample (n - 1), NaN for a single value; scores that do not
    exist (NaN) are left out.

    Parameters
    ----------
    scores : mapping
        For every experiment its scores by dotted name; all with the same names.

    Examples
    --------
    >>> comparison({"a": {"s": 1.0}, "b": {"s": 3.0}})[-3:]  # doctest: +NORMALIZE_WHITESPACE
    [{'experiment': 'mean', 's': 2.0}, {'experiment': 'std', 's': 1.4142135623730951},
     {'experiment': 'n', 's': 2}]
    """
    names = list(next(iter(scores.values())))
    known = {
        name: [of_one[name] for of_one in scores.values() if not math.isnan(of_one[name])]
        for name in names
    }
    rows: list[dict[str, Any]] = [
        {"experiment": experiment, **{name: of_one[name] for name in names}}
        for experiment, of_one in scores.items()
    ]
    mean = {name: statistics.fmean(v) if v else math.nan for name, v in known.items()}
    std = {name: statistics.stdev(v) if len(v) > 1 else math.nan for name, v in known.items()}
    number = {name: len(values) for name, values in known.items()}
    return [
        *rows,
        {"experiment": "mean", **mean},
        {"experiment": "std", **std},
        {"experiment": "n", **number},
    ]

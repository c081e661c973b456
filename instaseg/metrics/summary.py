"""One table from the scores of many samples: means, pooled counts, worst samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from instaseg.errors import DataError
from instaseg.metrics.config import (
    AVERAGES,
    COUNTS,
    GENERAL_LINES,
    MATCHED_LINES,
    MERGES_AND_SPLITS,
    direction,
    threshold_key,
)
from instaseg.metrics.scores import Scores, count_ratios

Row = dict[str, str | int | float]


def value_of(scores: Scores, name: str) -> int | float:
    """Return the score with a dotted name, for example ``confusion_matrix.th_0_5.AP``.

    Raises
    ------
    DataError
        If `scores` has no such name (scores written with other thresholds, for example).

    Examples
    --------
    >>> value_of({"general": {"Num GT": 3}}, "general.Num GT")
    3
    """
    found: object = scores
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise DataError(
                f"scores have no {name!r}: {part!r} is missing. Evaluate again with the thresholds"
                " of this configuration"
            )
        found = found[part]
    if not isinstance(found, (int, float)):
        raise DataError(f"scores: {name!r} is a group of scores, not a number")
    return found


def average_scores(samples: Sequence[Scores], average: Literal["images", "pooled"]) -> Scores:
    """Return one set of scores for many samples.

    Parameters
    ----------
    samples : sequence of dict
        Results of :func:`instaseg.metrics.score_instances` with the same settings.
    average : {"images", "pooled"}
        `images`: :func:`mean_scores`; `pooled`: :func:`pooled_scores`.

    Returns
    -------
    dict
        Same names.
    """
    return mean_scores(samples) if average == "images" else pooled_scores(samples)


def mean_scores(samples: Sequence[Scores]) -> Scores:
    """Return the mean over samples of every score, counts included.

    Parameters
    ----------
    samples : sequence of dict
        At least one; all with the same names.

    Returns
    -------
    dict
        Same names, floats.
    """
    _refuse_none(samples)
    first = samples[0]
    return {
        name: (
            mean_scores([sample[name] for sample in samples])
            if isinstance(value, dict)
            else float(np.mean([sample[name] for sample in samples]))
        )
        for name, value in first.items()
    }


def pooled_scores(samples: Sequence[Scores]) -> Scores:
    """Return the scores of all samples taken as one: counts are summed, shares computed from them.

    Means over instances are weighted: coverage by the true instances, `clDice_TP` and
    `avg_tp_skel_coverage` by the matches.

    Parameters
    ----------
    samples : sequence of dict
        At least one; all with the same names.

    Returns
    -------
    dict
        Same names.
    """
    _refuse_none(samples)
    confusions = [sample["confusion_matrix"] for sample in samples]
    keys = [key for key in confusions[0] if key not in AVERAGES]
    pooled: Scores = {key: _pool_threshold([c[key] for c in confusions]) for key in keys}
    pooled |= _pooled_averages(pooled)
    generals = [sample["general"] for sample in samples]
    general: Scores = {
        name: sum(general[name] for general in generals)
        for name in generals[0]
        if name not in GENERAL_LINES or name in ("FS", "FM")
    }
    if GENERAL_LINES[0] in generals[0]:
        coverage = _weighted(
            [g["avg_gt_skel_coverage"] for g in generals], [g["Num GT"] for g in generals]
        )
        general["avg_gt_skel_coverage"] = coverage
        general["avg_f1_cov_score"] = (pooled["avFscore"] + coverage) / 2
    return {"general": general, "confusion_matrix": pooled}


def _pool_threshold(parts: Sequence[Scores]) -> Scores:
    """Return the scores of one threshold from those of every sample."""
    pooled = count_ratios(*(sum(part[name] for part in parts) for name in COUNTS))
    pooled |= {name: sum(part[name] for part in parts) for name in MERGES_AND_SPLITS}
    matches = [part["AP_TP"] for part in parts]
    return pooled | {
        name: _weighted([part[name] for part in parts], matches)
        for name in MATCHED_LINES
        if name in parts[0]
    }


def _pooled_averages(pooled: Scores) -> dict[str, float]:
    """Return the averages over thresholds of pooled scores."""
    return {
        name: float(np.mean([pooled[threshold_key(t)][part] for t in used]))
        for name, (part, used) in AVERAGES.items()
    }


def _weighted(values: Sequence[float], weights: Sequence[int]) -> float:
    """Return the weighted mean; without any weight the value of a sample that is not empty."""
    if sum(weights) == 0:
        return min(values)
    return float(np.average(values, weights=weights))


def _refuse_none(samples: Sequence[Scores]) -> None:
    """Raise where there is nothing to average."""
    if not samples:
        raise DataError("no scores to average: no sample was evaluated")


def summary_rows(samples: Mapping[str, Scores], names: Sequence[str]) -> list[Row]:
    """Return the table of a summary: one row per sample, then the mean and the pooled scores.

    Parameters
    ----------
    samples : mapping of str to dict
        Scores by name of the sample.
    names : sequence of str
        Dotted names of the columns.

    Returns
    -------
    list of dict
        Every row has ``sample`` and the `names`; the last two are called ``mean`` and ``pooled``.
    """
    listed: list[tuple[str, Scores]] = list(samples.items())
    listed.append(("mean", mean_scores(list(samples.values()))))
    listed.append(("pooled", pooled_scores(list(samples.values()))))
    return [
        {"sample": sample, **{name: value_of(scores, name) for name in names}}
        for sample, scores in listed
    ]


def worst_samples(
    samples: Mapping[str, Scores], metric: str, count: int
) -> list[tuple[str, int | float]]:
    """Return the samples with the worst scores, worst first; ties by name.

    Parameters
    ----------
    samples : mapping of str to dict
        Scores by name of the sample.
    metric : str
        Dotted name; for counts of errors, high is bad.
    count : int
        How many to return at most.

    Returns
    -------
    list of (str, number)
        Names and values.
    """
    sign = 1 if direction(metric) == "higher" else -1
    values = {name: value_of(scores, metric) for name, scores in samples.items()}
    order = sorted(values, key=lambda name: (sign * values[name], name))
    return [(name, values[name]) for name in order[:count]]

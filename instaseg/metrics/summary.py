"""One table from the scores of many samples: means, pooled counts, worst samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from instaseg.errors import DataError
from instaseg.metrics.config import (
    AVERAGES,
    COUNTS,
    GENERAL_BOUNDARIES,
    GENERAL_LINES,
    MATCHED_LINES,
    MATCHED_SCORES,
    MERGES_AND_SPLITS,
    direction,
    threshold_key,
)
from instaseg.metrics.instance_classes import pooled_class_scores
from instaseg.metrics.ratios import (
    Scores,
    count_ratios,
    known_mean,
    matched_scores,
    weighted_mean,
)

Row = dict[str, str | int | float]
Pool = Callable[[Sequence[Scores]], Scores]
"""The scores of many samples taken as one."""


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


def average_scores(
    samples: Sequence[Scores], average: Literal["images", "pooled"], pool: Pool
) -> Scores:
    """Return one set of scores for many samples.

    Parameters
    ----------
    samples : sequence of dict
        Scores of results of one kind with the same settings.
    average : {"images", "pooled"}
        `images`: :func:`mean_scores`; `pooled`: `pool`.
    pool : callable
        For instances :func:`pooled_scores`.

    Returns
    -------
    dict
        Same names.
    """
    return mean_scores(samples) if average == "images" else pool(samples)


def mean_scores(samples: Sequence[Scores]) -> Scores:
    """Return the mean over samples of every score, counts included.

    Samples that do not have a score (NaN: a share of a subset they have no instance of) are left
    out of its mean.

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
            else known_mean([sample[name] for sample in samples])
        )
        for name, value in first.items()
    }


def pooled_scores(samples: Sequence[Scores]) -> Scores:
    """Return the scores of the instances of all samples, taken as one sample.

    Counts are summed, shares computed from them.

    Means over instances are weighted: coverage by the true instances, `mean_matched_score`,
    `clDice_TP` and `avg_tp_skel_coverage` by the matches. Boundary scores are the mean over
    samples. The pooled `avg_f1_cov_score` is the ranking score of FISBe [1]_.

    Parameters
    ----------
    samples : sequence of dict
        At least one; all with the same names.

    Returns
    -------
    dict
        Same names.

    References
    ----------
    .. [1] Mais et al., FISBe: a real-world benchmark dataset for instance segmentation of
       long-range thin filamentous structures, CVPR 2024, https://arxiv.org/abs/2404.00130
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
        if name not in (*GENERAL_LINES, *GENERAL_BOUNDARIES) or name in ("FS", "FM")
    }
    general |= {
        name: known_mean([general[name] for general in generals])
        for name in GENERAL_BOUNDARIES
        if name in generals[0]
    }
    if GENERAL_LINES[0] in generals[0]:
        coverage = weighted_mean(
            [g["avg_gt_skel_coverage"] for g in generals], [g["Num GT"] for g in generals]
        )
        general["avg_gt_skel_coverage"] = coverage
        general["avg_f1_cov_score"] = (pooled["avFscore"] + coverage) / 2
    subsets = {
        name: _pool_subset([sample["subsets"][name] for sample in samples])
        for name in samples[0]["subsets"]
    }
    scores = {"general": general, "subsets": subsets, "confusion_matrix": pooled}
    if "classes" in samples[0]:
        scores["classes"] = pooled_class_scores([sample["classes"] for sample in samples])
    return scores


def _pool_subset(parts: Sequence[Scores]) -> Scores:
    """Return the scores of one subset of instances from those of every sample."""
    some = [part for part in parts if part["Num GT"]]
    if not some:
        return dict(parts[0])
    count, found = (sum(part[name] for part in some) for name in ("Num GT", "TP"))
    pooled: Scores = {"Num GT": count, "TP": found, "recall_0_5": found / count}
    sizes = [part["Num GT"] for part in some]
    return pooled | {
        name: weighted_mean([part[name] for part in some], sizes)
        for name in some[0]
        if name not in pooled
    }


def _pool_threshold(parts: Sequence[Scores]) -> Scores:
    """Return the scores of one threshold from those of every sample."""
    pooled = count_ratios(*(sum(part[name] for part in parts) for name in COUNTS))
    matches = [part["AP_TP"] for part in parts]
    pooled |= matched_scores(
        weighted_mean([part[MATCHED_SCORES[0]] for part in parts], matches), pooled
    )
    pooled |= {name: sum(part[name] for part in parts) for name in MERGES_AND_SPLITS}
    return pooled | {
        name: weighted_mean([part[name] for part in parts], matches)
        for name in MATCHED_LINES
        if name in parts[0]
    }


def _pooled_averages(pooled: Scores) -> dict[str, float]:
    """Return the averages over thresholds of pooled scores."""
    return {
        name: float(np.mean([pooled[threshold_key(t)][part] for t in used]))
        for name, (part, used) in AVERAGES.items()
    }


def _refuse_none(samples: Sequence[Scores]) -> None:
    """Raise where there is nothing to average."""
    if not samples:
        raise DataError("no scores to average: no sample was evaluated")


def summary_rows(samples: Mapping[str, Scores], names: Sequence[str], pool: Pool) -> list[Row]:
    """Return the table of a summary: one row per sample, then the mean and the pooled scores.

    Parameters
    ----------
    samples : mapping of str to dict
        Scores by name of the sample.
    names : sequence of str
        Dotted names of the columns.
    pool : callable
        Makes the pooled scores.

    Returns
    -------
    list of dict
        Every row has ``sample`` and the `names`; the last two are called ``mean`` and ``pooled``.
    """
    listed: list[tuple[str, Scores]] = list(samples.items())
    listed.append(("mean", mean_scores(list(samples.values()))))
    listed.append(("pooled", pool(list(samples.values()))))
    return [
        {"sample": sample, **{name: value_of(scores, name) for name in names}}
        for sample, scores in listed
    ]


def worst_samples(
    samples: Mapping[str, Scores], metric: str, count: int
) -> list[tuple[str, int | float]]:
    """Return the samples with the worst scores, worst first; ties by name.

    Samples that do not have the score (NaN) are left out.

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
    found = {name: value_of(scores, metric) for name, scores in samples.items()}
    values = {name: value for name, value in found.items() if not math.isnan(value)}
    order = sorted(values, key=lambda name: (sign * values[name], name))
    return [(name, values[name]) for name in order[:count]]

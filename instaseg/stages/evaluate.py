"""``--do evaluate``: results against the ground truth, beside a baseline."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from instaseg.blockwise.scheduler import Pool, run_tasks
from instaseg.geometry import Coordinate
from instaseg.io.arrays import open_array
from instaseg.io.samples import Sample
from instaseg.metrics.config import OF_POINTS, ComparisonSettings, direction
from instaseg.metrics.summary import average_scores, summary_rows, value_of, worst_samples
from instaseg.run.fingerprint import fingerprint
from instaseg.stages.classify import require_classes
from instaseg.stages.context import Context, Dataset
from instaseg.stages.missing import skip_done
from instaseg.stages.postprocess import (
    finished_fingerprint,
    finished_key,
    instances_path,
    require_instances,
)
from instaseg.stages.results.kind import Baseline, ResultKind, Scores
from instaseg.stages.results.table import RESULTS
from instaseg.stages.scoring import (
    EvaluationTask,
    evaluate_baseline,
    evaluate_sample,
    evaluate_with,
    finished_scores,
    is_scored,
    read_scores,
)
from instaseg.stages.selection import Selection, select
from instaseg.stages.sizes import blocks_if_large, run_by_size, run_in
from instaseg.stages.tables import text_table, write_table

logger = logging.getLogger(__name__)

SUMMARY = "summary.csv"
AVERAGE_WORDS = {"images": "mean over samples", "pooled": "pooled counts"}
"""What messages call each value of ``[evaluation] average``."""


def run(context: Context) -> str:
    """Score every test sample with ground truth; return the table of scores."""
    selection = select(context)
    dataset = with_labels(context.dataset("test"))
    if not dataset.samples:
        return "evaluate: no test sample has labels; nothing to compare"
    require_instances(context, dataset, selection)
    require_classes(context, dataset, selection)
    tasks = method_tasks(context, dataset, selection)
    scores = method_scores(context, tasks, selection)
    report = _report(context, dataset, selection, scores)
    kind = RESULTS[context.method.result]
    if kind.repaired is None:
        return report
    return f"{report}\n{_what_was_scored(tasks, kind.key, kind.repaired)}"


def method_scores(
    context: Context, tasks: Sequence[EvaluationTask], selection: Selection
) -> dict[str, Scores]:
    """Return the scores of the results, by sample; works out what is missing."""
    missing = _missing(context, tasks, "evaluate")
    with Pool(context.workers) as pool:
        run_by_size(
            pool,
            missing,
            partial(_block_shape, context),
            whole=evaluate_sample,
            in_blocks=_evaluate_in_blocks,
            description="evaluate",
        )
    scores = _read(tasks)
    _write_summary(method_tasks(context, _all_with_labels(context), selection))
    return scores


def method_tasks(context: Context, dataset: Dataset, selection: Selection) -> list[EvaluationTask]:
    """Return what scores each sample's result."""
    return [method_task(context, dataset, sample, selection) for sample in dataset.samples]


def with_labels(dataset: Dataset) -> Dataset:
    """Return the samples that have ground truth; says which have none."""
    without = [sample.name for sample in dataset.samples if sample.labels is None]
    if without:
        logger.warning("no labels for %s; not evaluated", ", ".join(without))
    return dataset.labelled()


def _all_with_labels(context: Context) -> Dataset:
    """Return all test samples that have ground truth, whichever of them this run is about."""
    return context.with_all_samples().dataset("test").labelled()


def chosen_baseline(context: Context, settings: ComparisonSettings) -> Baseline | None:
    """Return the baseline that ``[evaluation]`` names, if there is one for this method."""
    return RESULTS[context.method.result].baseline(context.method_spec, settings)


def baseline_scores(
    context: Context, dataset: Dataset, settings: ComparisonSettings
) -> dict[str, Scores]:
    """Return the baseline's scores on the same samples, by sample; works out what is missing."""
    tasks = _baseline_tasks(context, dataset, settings)
    missing = _missing(context, tasks, "baseline")
    run_tasks(evaluate_baseline, missing, workers=context.workers, description="baseline")
    scores = _read(tasks)
    _write_summary(_baseline_tasks(context, _all_with_labels(context), settings))
    return scores


def _baseline_tasks(
    context: Context, dataset: Dataset, settings: ComparisonSettings
) -> list[EvaluationTask]:
    folder = context.experiment.baseline(dataset.name, settings.baseline)
    return [
        EvaluationTask(
            sample=sample,
            source=sample.raw.path,
            key="",
            output=folder / f"{sample.name}.toml",
            result=context.method.result,
            method=context.method_spec,
            settings=settings,
            fingerprint=fingerprint(
                settings.baseline,
                sample.identity(),
                sample.resolution,
                settings,
                context.config.method,
            ),
        )
        for sample in dataset.samples
    ]


def method_task(
    context: Context, dataset: Dataset, sample: Sample, selection: Selection
) -> EvaluationTask:
    """Return what scores a sample's result, with the fingerprint its scores get."""
    path = instances_path(context, dataset, sample, selection)
    key = finished_key(context, sample, path, selection)
    made_from = finished_fingerprint(context, sample, selection, key)
    settings = selection.parameters.evaluation
    folder = context.experiment.evaluated(
        dataset.name, selection.checkpoint, selection.parameters.name
    )
    return EvaluationTask(
        sample=sample,
        source=path,
        key=key,
        output=folder / f"{sample.name}.toml",
        result=context.method.result,
        method=context.method_spec,
        settings=settings,
        fingerprint=fingerprint("evaluate", made_from, settings),
    )


def is_evaluated(context: Context, dataset: Dataset, sample: Sample, selection: Selection) -> bool:
    """Return whether a sample has current scores, or no ground truth to be scored with."""
    if sample.labels is None:
        return True
    return is_scored(method_task(context, dataset, sample, selection))


def _missing(
    context: Context, tasks: Sequence[EvaluationTask], description: str
) -> list[EvaluationTask]:
    """Return the tasks whose scores are missing or outdated; says how many are not."""
    return skip_done(
        context, tasks, is_scored, words=f"{description}: %d of %d samples done, skipped"
    )


def _read(tasks: Sequence[EvaluationTask]) -> dict[str, Scores]:
    """Return each sample's scores."""
    return {t.sample.name: read_scores(t.output, t.fingerprint) or {} for t in tasks}


def _block_shape(context: Context, task: EvaluationTask) -> Coordinate | None:
    """Return the blocks of a result that is scored by all workers together; None for a small one.

    Parts are those of the files; blocks only say what is large.
    """
    if task.result == "points":
        return None
    shape = open_array(task.source, task.key).shape
    return blocks_if_large(shape, task.sample.ndim, context.config.general.block_shape)


def _evaluate_in_blocks(task: EvaluationTask, block_shape: Coordinate, pool: Pool) -> None:
    """Score a large result: its parts run in the pool."""
    del block_shape
    evaluate_with(run_in(pool, f"evaluate {task.sample.name}"), task)


def _write_summary(tasks: Sequence[EvaluationTask]) -> None:
    """Write one row per sample that has current scores, then the mean and the pooled counts."""
    scores = finished_scores(tasks)
    rows = summary_rows(scores, tasks[0].settings.summary, RESULTS[tasks[0].result].pool)
    write_table(tasks[0].output.parent / SUMMARY, rows)


def _report(
    context: Context, dataset: Dataset, selection: Selection, scores: Mapping[str, Scores]
) -> str:
    """Return the table of averages, and the samples with the worst scores."""
    settings, kind = selection.parameters.evaluation, RESULTS[context.method.result]
    rows = {f"checkpoint {selection.checkpoint}": scores}
    baseline = chosen_baseline(context, settings)
    if baseline is not None:
        rows[baseline.name] = baseline_scores(context, dataset, settings)
    table = text_table([average_row(name, of_all, settings, kind) for name, of_all in rows.items()])
    worst = worst_samples(scores, settings.metric, settings.worst)
    listed = ", ".join(f"{name} {value:.3f}" for name, value in worst)
    word = "lowest" if direction(settings.metric) == "higher" else "highest"
    folder = context.experiment.evaluated(
        dataset.name, selection.checkpoint, selection.parameters.name
    )
    return (
        f"{len(scores)} samples, {AVERAGE_WORDS[settings.average]} ({folder / SUMMARY}):\n{table}\n"
        f"{word} {settings.metric}: {listed}"
    )


def _what_was_scored(tasks: Sequence[EvaluationTask], labelled: str, repaired: str) -> str:
    """Return which array was scored: validation scores repaired instances, `infer` may not."""
    done = sum(task.key == repaired for task in tasks)
    if done == len(tasks):
        return f"scored: repaired instances ({repaired}), as in validation"
    some = f" for {len(tasks) - done} of {len(tasks)} samples" if done else ""
    return (
        f"scored: instances as labelled ({labelled}){some}; validation scores repaired ones, which"
        " --do postprocess evaluate scores here"
    )


def average_row(
    name: str, scores: Mapping[str, Scores], settings: ComparisonSettings, kind: ResultKind
) -> dict[str, Any]:
    """Return the row of the printed table for one method."""
    average = average_scores(list(scores.values()), settings.average, kind.pool)
    return score_row(name, average, settings)


def score_row(name: str, scores: Scores, settings: ComparisonSettings) -> dict[str, Any]:
    """Return a row with a name and the columns of the summary."""
    return {
        "": name,
        **{short_name(column): value_of(scores, column) for column in settings.summary},
    }


def short_name(column: str) -> str:
    """Return a column's name without what is clear.

    Examples
    --------
    >>> short_name("confusion_matrix.th_0_5.AP_TP"), short_name("confusion_matrix.avS")
    ('TP 0.5', 'avS')
    >>> short_name("subsets.overlapping.mean_iou"), short_name("post.F1")
    ('overlapping mean_iou', 'post F1')
    """
    parts = column.split(".")
    if parts[0] == "subsets":
        return " ".join(parts[1:])
    if parts[0] in OF_POINTS:  # each has the same scores
        return " ".join(parts)
    if len(parts) == 3:
        digits = parts[1].removeprefix("th_").replace("_", ".")
        return f"{parts[2].removeprefix('AP_')} {digits}"
    return parts[-1]

"""Scores of checkpoints times parameter sets on a data set; shared by three stages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from instaseg.blockwise.scheduler import Pool
from instaseg.errors import DataError
from instaseg.geometry import Coordinate
from instaseg.io.arrays import open_array, scratch_zarr
from instaseg.io.samples import Sample
from instaseg.metrics.config import direction
from instaseg.metrics.summary import average_scores, value_of
from instaseg.run.fingerprint import fingerprint
from instaseg.run.sweep import ParameterSet, best_row, combinations
from instaseg.stages.context import Context, Dataset
from instaseg.stages.decoding import assembly_device, checkpoint_decoder, decoding_in_label
from instaseg.stages.labelling import LabelTask, for_type, label_in_blocks, refinement
from instaseg.stages.missing import skip_done
from instaseg.stages.postprocess import RepairTask, repair_sample
from instaseg.stages.predicting import predict_missing, prediction_fingerprint
from instaseg.stages.results.table import RESULTS
from instaseg.stages.scene import roi_state
from instaseg.stages.scoring import (
    ValidationTask,
    is_scored,
    read_scores,
    score_set,
    validate_sample,
)
from instaseg.stages.sizes import blocks_of_prediction, run_by_size

Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One checkpoint, parameter set and sample, and where its scores belong."""

    checkpoint: int
    parameters: ParameterSet
    sample: Sample
    prediction: Path
    output: Path
    fingerprint: str


def score_samples(context: Context, dataset: Dataset, checkpoints: Sequence[int]) -> list[Job]:
    """Score every sample with every checkpoint and parameter set; works out what is missing.

    Parameters
    ----------
    context : Context
        Configuration and experiment.
    dataset : Dataset
        Samples with ground truth.
    checkpoints : sequence of int
        Iterations to compare.

    Returns
    -------
    list of Job
        What was scored, for :func:`score_table`.
    """
    require_labels(dataset)
    all_sets = (context.parameters(values) for values in combinations(context.config.validation))
    # A value that the command line fixes makes sets equal that differ in it alone.
    sets = list({parameters.name: parameters for parameters in all_sets}.values())
    jobs = [
        _job(context, dataset, checkpoint, parameters, sample)
        for checkpoint in checkpoints
        for sample in dataset.samples
        for parameters in sets
    ]
    _work_out(context, dataset, jobs)
    return jobs


def score_table(context: Context, jobs: Sequence[Job]) -> list[Row]:
    """Return one row of average scores per checkpoint and parameter set.

    Parameters
    ----------
    context : Context
        Says which scores, and how they are averaged.
    jobs : sequence of Job
        From :func:`score_samples`, of one data set or of several.

    Returns
    -------
    list of dict
        ``checkpoint``, ``parameters`` (name), ``values``, and every score by dotted name; in the
        order in which checkpoints and sets occur, checkpoints outermost.
    """
    groups: dict[tuple[int, str], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.checkpoint, job.parameters.name), []).append(job)
    return [average_row(context, of_one) for of_one in groups.values()]


def require_labels(dataset: Dataset) -> None:
    """Check that every sample has ground truth.

    Raises
    ------
    DataError
        If some have none; lists them.
    """
    without = [sample.name for sample in dataset.samples if sample.labels is None]
    if without:
        raise DataError(
            f"{dataset.name} data: expected labels for every sample, found none for"
            f" {', '.join(without[:10])}; add them, or choose other --{dataset.name}-data"
        )


def _job(
    context: Context,
    dataset: Dataset,
    checkpoint: int,
    parameters: ParameterSet,
    sample: Sample,
) -> Job:
    folder = context.experiment.evaluated(dataset.name, checkpoint, parameters.name)
    return Job(
        checkpoint=checkpoint,
        parameters=parameters,
        sample=sample,
        prediction=context.experiment.prediction(dataset.name, checkpoint, sample.name),
        output=folder / f"{sample.name}.toml",
        fingerprint=fingerprint(
            "validation",
            prediction_fingerprint(context, sample, checkpoint),
            *parameters.tables.values(),
            *roi_state(sample, parameters.postprocessing),
        ),
    )


def _work_out(context: Context, dataset: Dataset, jobs: Sequence[Job]) -> None:
    """Score what has no current scores: one task per prediction, so that sets share its work."""
    missing = skip_done(context, jobs, is_scored, words="%d of %d scores exist, skipped")
    for checkpoint in sorted({job.checkpoint for job in missing}):
        names = {job.sample.name for job in missing if job.checkpoint == checkpoint}
        samples = tuple(sample for sample in dataset.samples if sample.name in names)
        predict_missing(context, Dataset(dataset.name, samples), checkpoint)
    by_prediction: dict[Path, list[Job]] = {}
    for job in missing:
        by_prediction.setdefault(job.prediction, []).append(job)
    tasks = [
        ValidationTask(
            sample=group[0].sample,
            prediction=prediction,
            method=decoding_in_label(context.method_spec),
            sets=tuple(job.parameters for job in group),
            outputs=tuple(job.output for job in group),
            fingerprints=tuple(job.fingerprint for job in group),
            decode=checkpoint_decoder(context, group[0].checkpoint),
            device=assembly_device(context),
        )
        for prediction, group in by_prediction.items()
    ]
    with Pool(context.workers) as pool:
        run_by_size(
            pool,
            tasks,
            partial(blocks_of_prediction, wanted=context.config.general.block_shape),
            whole=validate_sample,
            in_blocks=validate_in_blocks,
            description="validate",
        )


def validate_in_blocks(task: ValidationTask, block_shape: Coordinate, pool: Pool) -> None:
    """Label, repair and score one sample with each parameter set, as the stages do in blocks.

    Results lie beside the scores until they are scored; sets that label alike share them. Finished
    blocks of a run that failed are kept for the next one, as by `label`.
    """
    groups: dict[str, list[int]] = {}
    for number, parameters in enumerate(task.sets):
        alike = fingerprint("alike", parameters.labelling, parameters.postprocessing.median)
        groups.setdefault(alike, []).append(number)
    for numbers in groups.values():
        with scratch_zarr(task.outputs[numbers[0]].with_suffix(".zarr")) as scratch:
            label_in_blocks(_label_task(task, numbers[0], scratch), block_shape, pool)
            for number in numbers:
                _repair_and_score(task, number, scratch, block_shape, pool)


def _label_task(task: ValidationTask, number: int, output: Path) -> LabelTask:
    parameters, sample = task.sets[number], task.sample
    return LabelTask(
        sample=sample.name,
        prediction=task.prediction,
        output=output,
        method=task.method,
        parameters=for_type(parameters.labelling, sample.kind),
        fingerprint=task.fingerprints[number],
        decode=task.decode,
        device=task.device,
        medians=parameters.postprocessing.medians,
        refine=refinement(task.method.build().result, sample, parameters.labelling),
    )


def _repair_and_score(
    task: ValidationTask, number: int, path: Path, block_shape: Coordinate, pool: Pool
) -> None:
    """Repair a stored result, where there is something to repair, and score it."""
    kind = RESULTS[task.method.build().result]
    if kind.repaired is not None:
        repair = RepairTask(
            sample=task.sample,
            path=path,
            prediction=task.prediction,
            method=task.method,
            settings=task.sets[number].postprocessing,
            fingerprint=task.fingerprints[number],
            block_shape=block_shape,
        )
        try:
            repair_sample(repair, pool)
        finally:
            repair.table.unlink(missing_ok=True)
    truth = kind.open_truth(task.sample, task.method)
    score_set(task, number, truth, open_array(path, kind.repaired or kind.key))


def average_row(context: Context, jobs: Sequence[Job]) -> Row:
    """Return the average scores of some jobs as one row; see :func:`score_table`."""
    settings = context.config.evaluation
    scores = [stored for job in jobs if (stored := read_scores(job.output, job.fingerprint))]
    average = average_scores(scores, settings.average, RESULTS[context.method.result].pool)
    names = dict.fromkeys((settings.metric, *settings.summary))
    return {
        "checkpoint": jobs[0].checkpoint,
        "parameters": jobs[0].parameters.name,
        "values": dict(jobs[0].parameters.values),
        **{name: value_of(average, name) for name in names},
    }


def best(rows: Sequence[Row], metric: str) -> Row:
    """Return the best row by a score; ties as in :func:`best_row`."""
    return dict(best_row(rows, metric, better=direction(metric)))


def require_value(row: Row, metric: str, where: str) -> Row:
    """Return the best row, which has a value of the score that chooses.

    Raises
    ------
    DataError
        If it has none: then no row has one, and there is nothing to choose by.
    """
    if math.isnan(row[metric]):
        raise DataError(
            f"{where}: expected samples that have a value of the score that chooses, {metric},"
            " found none; choose another one as [evaluation] metric, or other samples"
        )
    return row

"""Quality of predictions themselves, without instances: scores per checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instaseg.blockwise.scheduler import run_tasks
from instaseg.errors import DataError
from instaseg.io.arrays import open_array
from instaseg.io.samples import Sample, read_whole
from instaseg.methods.base import Decode
from instaseg.methods.build import MethodSpec
from instaseg.run.fingerprint import fingerprint
from instaseg.stages.context import Context, Dataset
from instaseg.stages.decoding import checkpoint_decoder
from instaseg.stages.missing import missing_tasks
from instaseg.stages.predicting import predict_missing, prediction_fingerprint
from instaseg.stages.results.table import RESULTS
from instaseg.stages.scoring import is_scored, read_scores, write_scores
from instaseg.stages.stored import image_shape, method_at, read_prediction

logger = logging.getLogger(__name__)

Row = dict[str, Any]
FOLDER = "predictions"
"""Stands for the parameters' name in the folder of scores; instances have none here."""


@dataclass(frozen=True)
class QualityTask:
    """What :func:`measure_sample` needs.

    Parameters
    ----------
    sample : Sample
        With its ground truth.
    prediction : Path
        Zarr folder of the predicted heads.
    method : MethodSpec
        What knows the heads.
    output : Path
        The TOML file to write.
    fingerprint : str
        Kept with the scores.
    decode : callable, optional
        Decoder, for methods with codes.
    """

    sample: Sample
    prediction: Path
    method: MethodSpec
    output: Path
    fingerprint: str
    decode: Decode | None = None

    def __str__(self) -> str:
        return f"sample {self.sample.name} of {self.prediction.parent.name}"


def quality_table(context: Context, dataset: Dataset, checkpoints: Sequence[int]) -> list[Row]:
    """Return one row of mean scores per checkpoint; works out what is missing.

    Samples whose predictions do not fit in memory, by the measure of the method, are left out.

    Returns
    -------
    list of dict
        ``checkpoint``, ``parameters``, ``values`` (none: as configured), every score by dotted
        name.

    Raises
    ------
    DataError
        If no sample has a value of the score that chooses the checkpoint.
    """
    tasks = {number: _tasks(context, dataset, number) for number in checkpoints}
    for number, of_one in tasks.items():
        missing = missing_tasks(context, of_one, is_scored)
        missing = [t for t in missing if _fits(context, t, t.sample.open_raw().shape[1:])]
        predict_missing(context, Dataset(dataset.name, tuple(t.sample for t in missing)), number)
        key = context.method.heads[0].key
        stored = [open_array(task.prediction, key).shape[1:] for task in missing]
        missing = [t for t, n in zip(missing, stored, strict=True) if _fits(context, t, n)]
        run_tasks(measure_sample, missing, workers=context.workers, description="predictions")
    return [_row(context, number, of_one) for number, of_one in tasks.items()]


def _tasks(context: Context, dataset: Dataset, checkpoint: int) -> list[QualityTask]:
    experiment = context.experiment
    folder = experiment.evaluated(dataset.name, checkpoint, FOLDER)
    return [
        QualityTask(
            sample=sample,
            prediction=experiment.prediction(dataset.name, checkpoint, sample.name),
            method=context.method_spec,
            output=folder / f"{sample.name}.toml",
            fingerprint=fingerprint("quality", prediction_fingerprint(context, sample, checkpoint)),
            decode=checkpoint_decoder(context, checkpoint),
        )
        for sample in dataset.samples
    ]


def _fits(context: Context, task: QualityTask, shape: Sequence[int]) -> bool:
    """Return whether the prediction of an image of `shape` fits in memory; says so if not.

    It is compared with the ground truth as a whole: methods share no way to add up their scores.
    """
    if context.method.block_shape(shape) is None:
        return True
    logger.warning(
        "%s: its prediction of %s voxels does not fit in memory, where predictions themselves are"
        " scored; left out. Cut smaller samples from it, or set validation.prediction_only = false,"
        " which labels it in blocks",
        task,
        list(shape),
    )
    return False


def measure_sample(task: QualityTask) -> None:
    """Compare one sample's prediction with its ground truth and write the scores."""
    method = method_at(task.method, task.prediction)
    prediction = read_prediction(task.prediction, method.heads)
    sample = task.sample
    if image_shape(task.prediction, method.heads) is not None:
        predicted = prediction[method.heads[0].name].shape[1:]
        sample = sample.resized(
            tuple(n - 2 * m for n, m in zip(predicted, method.margin, strict=True))
        )
    truth = read_whole(RESULTS[method.result].open_truth(sample, task.method))
    mask = sample.read_mask()
    scores = method.prediction_quality(prediction, truth, mask, decode=task.decode)
    write_scores(task.output, {"scores": scores}, task.fingerprint)


def _row(context: Context, checkpoint: int, tasks: Sequence[QualityTask]) -> Row:
    """Return the means over the samples that have a value; scores that none has are left out."""
    stored = [read_scores(task.output, task.fingerprint) or {} for task in tasks]
    found = [of_one.get("scores", {}) for of_one in stored]
    means: dict[str, float] = {}
    for name in context.method.quality_names:
        values = [scores[name] for scores in found if name in scores]
        if values:
            means[name] = sum(values) / len(values)
    metric = context.config.validation.prediction_metric
    if metric not in means:
        raise DataError(
            f"[validation] prediction_metric: {metric}: expected samples that have a value and fit"
            f" in memory, found none among {len(tasks)}; choose another one, or other samples"
        )
    parameters = context.parameters({})
    return {"checkpoint": checkpoint, "parameters": parameters.name, "values": {}, **means}

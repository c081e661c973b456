"""Predictions of a data set by one checkpoint; shared by predict and the validating stages."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instaseg.data.normalization import for_sample
from instaseg.errors import StageError
from instaseg.inference.predict import predict_sample, prediction_shape
from instaseg.io.arrays import ArrayPlan, forget_parts, resumed_arrays
from instaseg.io.samples import Sample
from instaseg.progress import progress
from instaseg.run.fingerprint import fingerprint
from instaseg.stages.context import Context, Dataset
from instaseg.stages.networks import TrainedNetwork, architecture, trained_network
from instaseg.stages.selection import digest
from instaseg.stages.stored import IMAGE_SHAPE, stored_fingerprint
from instaseg.training.devices import freed_memory_kept

logger = logging.getLogger(__name__)

MOST_VALUES = 1 << 23


def _size_settings(context: Context) -> tuple[Any, ...]:
    """Return what the size of a prediction follows from; nothing where images keep theirs."""
    settings = context.config.data.object_size
    if settings.target == "none":
        return ()
    first_pass = (context.config.vote_instances,) if settings.diameter == "two_pass" else ()
    return ("object size", settings, *first_pass)


def prediction_fingerprint(context: Context, sample: Sample, checkpoint: int) -> str:
    """Return the fingerprint of the prediction a sample should have.

    Batch size, tile shape, and what a method needs in training or afterwards only are left out:
    they do not change the result.
    """
    config = context.config
    method = config.method.model_dump(mode="json", exclude=dict(config.method.NOT_PREDICTED))
    prediction = config.prediction.model_dump(mode="json", exclude={"batch_size"})
    normalization = config.data.normalization
    weights = digest(context, checkpoint)
    return fingerprint(
        "predict",
        weights,
        architecture(context),
        method,
        prediction,
        normalization,
        sample.identity(),
        sample.resolution,
        *_size_settings(context),
    )


def predict_missing(context: Context, dataset: Dataset, checkpoint: int) -> None:
    """Predict the samples that have no current prediction, one after the other."""
    overwrite = context.options.existing == "overwrite"
    missing = [
        sample
        for sample in dataset.samples
        if overwrite or not is_predicted(context, dataset, sample, checkpoint)
    ]
    if len(missing) < len(dataset.samples):
        done = len(dataset.samples) - len(missing)
        logger.info(
            "predict: %d of %d samples of %s done, skipped",
            done,
            len(dataset.samples),
            dataset.name,
        )
    if not missing:
        return
    # Not at the top: to label what a first pass predicts needs modules that need this one.
    from instaseg.stages.object_size import predicted_at

    trained = trained_network(context, checkpoint)
    with freed_memory_kept():
        for sample in progress(missing, f"predict {dataset.name} {checkpoint}"):
            _predict(
                context,
                trained,
                predicted_at(context, trained, sample, checkpoint),
                context.experiment.prediction(dataset.name, checkpoint, sample.name),
                prediction_fingerprint(context, sample, checkpoint),
            )


def _predict(
    context: Context, trained: TrainedNetwork, sample: Sample, path: Path, made_from: str
) -> None:
    """Predict one sample, or the rest of it; its arrays appear when all of it is done."""
    raw, margin = sample.open_raw(), context.method.margin
    normalization = context.config.data.normalization
    statistics = for_sample(sample, normalization, trained.statistics)
    predictor = trained.predictor
    tile = predictor.tile_shape(raw.shape[1:], margin)
    attributes = {"fingerprint": made_from, "margin": margin, "resolution": sample.resolution}
    if sample.size is not None:
        attributes[IMAGE_SHAPE] = sample.resized(None).open_raw().shape[1:]
    plans = [
        ArrayPlan(
            head.key,
            prediction_shape(head, raw.shape[1:], margin),
            predictor.dtype(head),
            chunk_shape(head.channels, tile),
            attributes,
        )
        for head in predictor.heads
    ]
    if context.options.existing == "overwrite":
        forget_parts(path)
    with resumed_arrays(path, plans, fingerprint(made_from, list(tile))) as (arrays, done):
        if len(done):
            logger.info("predict: sample %s goes on after %d tiles", sample.name, len(done))
        predict_sample(
            predictor,
            raw,
            normalize=statistics.apply,
            writers={h.name: array for h, array in zip(predictor.heads, arrays, strict=True)},
            margin=margin,
            done=done,
        )


def chunk_shape(channels: int, tile: Sequence[int]) -> tuple[int, ...]:
    """Return chunks with all channels whose sides divide the tile's, of at most 8 million values.

    Assembly reads all channels of a place at once; one file per channel would be thousands.

    Examples
    --------
    >>> chunk_shape(625, (400, 400))
    (625, 100, 100)
    """
    shape = list(tile)
    while channels * math.prod(shape) > MOST_VALUES and any(n % 2 == 0 for n in shape):
        longest = max(n for n in shape if n % 2 == 0)
        shape[shape.index(longest)] = longest // 2
    return (channels, *shape)


def require_predictions(
    context: Context, dataset: Dataset, checkpoint: int, names: Sequence[str]
) -> None:
    """Check that samples have current predictions.

    Raises
    ------
    StageError
        If some have none, or one by other weights or settings; lists them.
    """
    lacking = [
        sample.name
        for sample in dataset.samples
        if sample.name in names and not is_predicted(context, dataset, sample, checkpoint)
    ]
    if lacking:
        raise StageError(
            f"expected predictions of checkpoint {checkpoint} with the present settings for every"
            f" sample of {dataset.name}; none for {', '.join(lacking[:10])}; run predict first"
        )


def is_predicted(context: Context, dataset: Dataset, sample: Sample, checkpoint: int) -> bool:
    """Return whether all heads are there, made from what they would be made from now."""
    path = context.experiment.prediction(dataset.name, checkpoint, sample.name)
    wanted = prediction_fingerprint(context, sample, checkpoint)
    return all(stored_fingerprint(path, head.key) == wanted for head in context.method.heads)

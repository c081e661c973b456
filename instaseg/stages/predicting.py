"""Predictions of a data set by one checkpoint; shared by predict and the validating stages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from instaseg.blockwise.scheduler import Pool
from instaseg.data.normalization import Statistics, for_sample
from instaseg.errors import StageError
from instaseg.inference.predict import count_batches, predict_tiles, prediction_shape
from instaseg.io.arrays import ArrayPlan, Reader, forget_parts
from instaseg.io.samples import Sample
from instaseg.run.fingerprint import fingerprint
from instaseg.stages.context import Context, Dataset
from instaseg.stages.missing import skip_done
from instaseg.stages.networks import TrainedNetwork, architecture, trained_network
from instaseg.stages.parts import Parted, PartTask, make_parts
from instaseg.stages.selection import digest
from instaseg.stages.stored import IMAGE_SHAPE, stored_fingerprint
from instaseg.training.devices import freed_memory_kept

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
    """Predict the samples that have no current prediction, tile by tile."""
    missing = skip_done(
        context,
        dataset.samples,
        lambda sample: is_predicted(context, dataset, sample, checkpoint),
        words=f"predict: %d of %d samples of {dataset.name} done, skipped",
    )
    if not missing:
        return
    # Not at the top: to label what a first pass predicts needs modules that need this one.
    from instaseg.stages.object_size import predicted_at

    trained = trained_network(context, checkpoint)
    samples = [
        _parted(
            context,
            trained,
            predicted_at(context, trained, sample, checkpoint),
            context.experiment.prediction(dataset.name, checkpoint, sample.name),
            checkpoint,
        )
        for sample in missing
    ]
    if context.options.existing == "overwrite":
        for sample in samples:
            forget_parts(sample.path)
    with freed_memory_kept(), Pool(context.workers) as pool:
        make_parts(pool, samples, predict_part, description=f"predict {dataset.name} {checkpoint}")


@dataclass(frozen=True)
class PredictWork:
    """What predicting a part of a sample needs.

    Parameters
    ----------
    context : Context
        What the network is built from.
    checkpoint : int
        Whose weights it gets.
    sample : Sample
        The image, at the size at which it is predicted.
    statistics : Statistics
        What it is normalised with.
    """

    context: Context
    checkpoint: int
    sample: Sample
    statistics: Statistics


def _parted(
    context: Context, trained: TrainedNetwork, sample: Sample, path: Path, checkpoint: int
) -> Parted[PredictWork]:
    """Return what is predicted of a sample, and where it goes."""
    raw, margin, predictor = sample.open_raw(), context.method.margin, trained.predictor
    made_from = prediction_fingerprint(context, sample.resized(None), checkpoint)
    tile = predictor.tile_shape(raw.shape[1:], margin)
    attributes = {"fingerprint": made_from, "margin": margin, "resolution": sample.resolution}
    if sample.size is not None:
        attributes[IMAGE_SHAPE] = sample.resized(None).open_raw().shape[1:]
    plans = tuple(
        ArrayPlan(
            head.key,
            prediction_shape(head, raw.shape[1:], margin),
            predictor.dtype(head),
            chunk_shape(head.channels, tile),
            attributes,
        )
        for head in predictor.heads
    )
    statistics = for_sample(sample, context.config.data.normalization, trained.statistics)
    return Parted(
        name=sample.name,
        path=path,
        plans=plans,
        made_from=fingerprint(made_from, list(tile), predictor.settings.batch_size),
        parts=count_batches(predictor, raw.shape[1:], margin),
        work=PredictWork(context.for_workers(), checkpoint, sample, statistics),
    )


def predict_part(task: PartTask[PredictWork]) -> None:
    """Predict one batch of a sample's tiles, and write them."""
    work = task.work
    predictor = trained_network(work.context, work.checkpoint).predictor
    predict_tiles(
        predictor,
        _opened_raw(work.sample),
        task.number,
        normalize=work.statistics.apply,
        writers={h.name: w for h, w in zip(predictor.heads, task.writers, strict=True)},
        margin=work.context.method.margin,
    )


def _opened_raw(sample: Sample) -> Reader:
    """Return a sample's image, opened once in a process as long as its files stay what they are.

    To open a stack of sections reads the header of every file, and each part would do so.
    """
    key = (sample, sample.identity())
    if key != _opened.get("key"):
        _opened.clear()
        _opened.update(key=key, raw=sample.open_raw())
    return cast(Reader, _opened["raw"])


_opened: dict[str, Any] = {}


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

"""The size at which a sample is predicted, where ``[data.object_size]`` asks for a common one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.data.normalization import for_sample
from instaseg.data.object_size import median_diameter, resized
from instaseg.errors import CheckpointError
from instaseg.geometry import Box
from instaseg.inference.predict import predict_sample, prediction_shape
from instaseg.io.samples import Sample
from instaseg.stages.context import Context
from instaseg.stages.decoding import assembly_device, checkpoint_decoder
from instaseg.stages.networks import TrainedNetwork

logger = logging.getLogger(__name__)

MEASURED = {2: (1024, 1024), 3: (128, 256, 256)}
"""Most that the first pass looks at, in voxels by number of axes: enough objects for a median."""


def predicted_at(
    context: Context, trained: TrainedNetwork, sample: Sample, checkpoint: int
) -> Sample:
    """Return a sample at the size at which it is predicted.

    Raises
    ------
    CheckpointError
        If the network was trained on images of any size.
    """
    settings = context.config.data.object_size
    if settings.target == "none":
        return sample
    typical = trained.object_diameter
    if typical is None:
        raise CheckpointError(
            f"checkpoint {checkpoint}: expected a network trained on resized images because of"
            " data.object_size.target, found one trained without; set it to 'none', or train a new"
            " experiment"
        )
    diameter: float = typical
    if settings.diameter != "two_pass":
        diameter = settings.diameter
    else:
        nominal = resized(sample, typical, settings)
        seen = _first_pass(context, trained, nominal, checkpoint)
        if seen is None:
            logger.warning(
                "sample %s: no objects in the first pass; resized as most training images are",
                sample.name,
            )
        else:
            diameter = seen * sample.open_raw().shape[-1] / nominal.open_raw().shape[-1]
    sized = resized(sample, diameter, settings)
    logger.debug("sample %s: objects of %.1f voxels; size %s", sample.name, diameter, sized.size)
    return sized


def _first_pass(
    context: Context, trained: TrainedNetwork, sample: Sample, checkpoint: int
) -> float | None:
    """Return the diameter of what is found in the middle of a sample, in its voxels."""
    raw = sample.open_raw()
    box = _middle(raw.shape[1:])
    statistics = for_sample(
        sample.resized(None), context.config.data.normalization, trained.statistics
    )
    predictor, method = trained.predictor, context.method
    part = raw[(slice(0, raw.shape[0]), *box.slices)]
    prediction: dict[str, NDArray[Any]] = {
        head.name: np.zeros(prediction_shape(head, box.shape, method.margin), predictor.dtype(head))
        for head in predictor.heads
    }
    predict_sample(
        predictor, part, normalize=statistics.apply, writers=prediction, margin=method.margin
    )
    (found,) = (
        context.method_spec.at(sample.resolution)
        .build()
        .label(
            prediction,
            [context.config.vote_instances],
            decode=checkpoint_decoder(context, checkpoint),
            device=assembly_device(context),
        )
    )
    return median_diameter(
        found,
        context.config.data.object_size,
        ndim=sample.ndim,
        objects="instances" if method.class_map is None else "regions",
    )


def _middle(shape: Sequence[int]) -> Box:
    """Return the middle of an image, or all of it if it is small."""
    kept = [min(n, most) for n, most in zip(shape, MEASURED[len(shape)], strict=True)]
    begin = tuple((n - k) // 2 for n, k in zip(shape, kept, strict=True))
    return Box(begin, tuple(b + k for b, k in zip(begin, kept, strict=True)))

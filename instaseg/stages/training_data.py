"""The samples that train the network."""

from __future__ import annotations

import logging
from dataclasses import replace

from instaseg.data.filters import filtered
from instaseg.stages.context import Context, Dataset

logger = logging.getLogger(__name__)


def training_data(context: Context) -> Dataset:
    """Return the training samples that ``[data.filters]`` keeps; logs what it leaves out, and why.

    Raises
    ------
    DataError
        If it keeps none, or an array is missing or damaged.
    """
    dataset = context.dataset("train")
    kept, left_out = filtered(dataset.samples, context.config.data.filters)
    for reason in left_out:
        logger.info("train: left out %s", reason)
    return replace(dataset, samples=kept)

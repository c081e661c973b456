"""``--do train_autoencoder``: a decoder of patch codes, from true patches alone."""

from __future__ import annotations

import logging
import shutil

import torch

from instaseg.config.load import config_to_toml
from instaseg.stages.context import Context
from instaseg.stages.train import (
    at_training_size,
    changed_validation,
    crop_batches,
    crop_source,
)
from instaseg.stages.training_data import training_data
from instaseg.training.devices import choose_device
from instaseg.training.loop import TrainingRun, train

logger = logging.getLogger(__name__)


def run(context: Context) -> str | None:
    """Train until the budget of ``[training]`` is used up; all goes to ``autoencoder/``."""
    coding, config = context.method.coding, context.config
    if coding is None:
        logger.info("train_autoencoder: this setup has no codes; nothing to do")
        return None
    folder = context.experiment.autoencoder_folder
    if context.options.existing == "overwrite" and folder.exists():
        logger.info("train_autoencoder: --overwrite, %s is deleted", folder)
        shutil.rmtree(folder)
    dataset, _ = at_training_size(context, training_data(context))
    source = crop_source(context, dataset)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.general.seed)
        network = coding.autoencoder()
    iterations = train(
        network,
        coding.autoencoder_loss,
        run=TrainingRun(
            folder=folder,
            settings=config.training,
            optimizer=config.optimizer,
            device=choose_device(config.general.device),
            seed=config.general.seed,
            config=config_to_toml(config),
            architecture=coding.architecture,
        ),
        batches=crop_batches(context, source, coding.patches),
        validation=changed_validation(context, source, coding.patches, stage="train_autoencoder"),
    )
    return f"train_autoencoder: {iterations} iterations ({folder})"

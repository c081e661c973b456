"""``--do train``: the network from images with labels, from the last checkpoint if there is one."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

from instaseg.config.load import config_to_toml
from instaseg.data.batches import (
    CropSource,
    CropSpec,
    crop_seed,
    training_batches,
    validation_batches,
)
from instaseg.data.normalization import Statistics, fit
from instaseg.data.object_size import resized_by_labels
from instaseg.models.shapes import output_shape
from instaseg.run.setups import load_code
from instaseg.stages.context import Context, Dataset
from instaseg.stages.decoders import load_decoder
from instaseg.stages.networks import OBJECT_DIAMETER, architecture, untrained_network
from instaseg.stages.training_data import training_data
from instaseg.training.checkpoints import list_checkpoints, load_checkpoint
from instaseg.training.devices import choose_device
from instaseg.training.loop import Loss, TrainingRun, train
from instaseg.training.snapshots import SnapshotWriter

if TYPE_CHECKING:
    from torch import Tensor

    Change = Callable[[Mapping[str, Tensor], int], Mapping[str, Tensor]]

# What random numbers are for, so that those of one purpose are unrelated to those of another.
_SITES, _VALIDATION = 1, 2

logger = logging.getLogger(__name__)


def run(context: Context) -> str:
    """Train until the budget is used up; checkpoints, logs and snapshots go to ``train/``."""
    folder, config, ranks = context.experiment.train_folder, context.config, context.ranks
    if context.options.existing == "overwrite" and folder.exists() and ranks.first:
        logger.info("train: --overwrite, %s is deleted", folder)
        shutil.rmtree(folder)
    ranks.meet()
    dataset, sizes = at_training_size(context, training_data(context))
    source = crop_source(context, dataset)
    device = choose_device(config.general.device, ranks)
    logger.info("train: on %s, %d samples", device, len(source.samples))
    if not ranks.alone:
        logger.info(
            "train: %d processes, batches of %d",
            ranks.size,
            ranks.size * config.training.batch_size,
        )
    network = untrained_network(context)
    load_decoder(context, network)
    iterations = train(
        network,
        _loss(context),
        run=TrainingRun(
            folder=folder,
            settings=config.training,
            optimizer=config.optimizer,
            device=device,
            seed=config.general.seed,
            config=config_to_toml(config),
            statistics=source.statistics.to_dict() | sizes,
            architecture=architecture(context),
            ranks=ranks,
        ),
        batches=crop_batches(context, source, partial(_with_sites, context)),
        validation=changed_validation(
            context, source, partial(_with_sites, context), stage="train"
        ),
        write_snapshot=SnapshotWriter(folder / "snapshots", context.method.heads),
    )
    return f"train: {iterations} iterations ({folder})"


def at_training_size(context: Context, dataset: Dataset) -> tuple[Dataset, dict[str, float]]:
    """Return samples resized to a common size of their objects, where that is asked for.

    Returns
    -------
    Dataset, dict
        And what the checkpoint has to keep for prediction.
    """
    settings = context.config.data.object_size
    if settings.target == "none":
        return dataset, {}
    class_map = context.method.class_map
    measured = resized_by_labels(dataset.samples, settings, class_map=class_map)
    return replace(dataset, samples=measured.samples), {OBJECT_DIAMETER: measured.diameter}


def crop_source(context: Context, dataset: Dataset) -> CropSource:
    """Return what training crops are cut from."""
    data, model, method = context.config.data, context.config.model, context.method
    return CropSource(
        samples=dataset.samples,
        crop=CropSpec(
            input_shape=model.train_input_shape,
            output_shape=output_shape(model, model.train_input_shape),
            context=method.context,
        ),
        sampling=context.config.training.sampling,
        normalization=data.normalization,
        statistics=_statistics(context, dataset),
        targets=method.targets,
        class_map=method.class_map,
        beyond=method.labels_beyond,
        instance_classes=method.instance_classes,
    )


def _statistics(context: Context, dataset: Dataset) -> Statistics:
    """Return what the training began with, or measure the data if it begins now."""
    folder = context.experiment.checkpoints
    if list_checkpoints(folder):
        return Statistics.from_dict(load_checkpoint(folder).statistics)
    return fit(dataset.samples, context.config.data.normalization)


def _loss(context: Context) -> Loss:
    """Return the method's loss, or that of the setup's ``torch_loss.py``."""
    code = load_code(context.setup_code, "torch_loss.py")
    return cast(Loss, context.method.loss if code is None else code.loss)


def crop_batches(
    context: Context, source: CropSource, change: Change
) -> Callable[[int], Iterator[Mapping[str, Tensor]]]:
    """Return what gives batches of crops from some iteration on, each changed by a function."""
    settings, seed = context.config.training, context.config.general.seed
    first_element = context.ranks.rank * settings.batch_size
    draw = partial(
        training_batches,
        source,
        augmentation=settings.augmentation,
        batch_size=settings.batch_size,
        num_workers=settings.num_workers,
        seed=seed,
        first_element=first_element,
    )

    def batches(first: int) -> Iterator[Mapping[str, Tensor]]:
        with closing(draw(first_iteration=first)) as crops:
            for number, batch in enumerate(crops, start=first):
                yield change(batch, crop_seed((seed, _SITES), number, first_element))

    return batches


def changed_validation(
    context: Context, source: CropSource, change: Change, *, stage: str
) -> Sequence[Mapping[str, Tensor]]:
    """Return the validation batches, each changed by a function; `stage` is for messages."""
    seed = context.config.general.seed
    return [
        change(batch, crop_seed((seed, _SITES, _VALIDATION), number, 0))
        for number, batch in enumerate(_validation(context, source, stage))
    ]


def _with_sites(context: Context, batch: Mapping[str, Tensor], seed: int) -> Mapping[str, Tensor]:
    """Return a batch with the voxels where large heads are evaluated.

    A setup's own loss gets all outputs whole, except where codes have to be decoded.
    """
    if context.method.coding is None and (context.setup_code / "torch_loss.py").is_file():
        return batch
    sites = context.method.sites(batch, seed)
    return batch if sites is None else {**batch, "sites": sites}


def _validation(context: Context, source: CropSource, stage: str) -> Sequence[Mapping[str, Tensor]]:
    """Return fixed batches of the validation data; none where there are none to compare with."""
    settings = context.config.training
    if not context.ranks.first:
        return ()
    if settings.val_log_step == 0 or not context.config.data.validates:
        logger.info("%s: no validation loss (no val_data, or val_log_step = 0)", stage)
        return ()
    dataset = context.dataset("val")
    if any(sample.labels is None for sample in dataset.samples):
        logger.warning(
            "%s: no validation loss, because some samples of val_data have no labels", stage
        )
        return ()
    return validation_batches(
        replace(source, samples=at_training_size(context, dataset)[0].samples),
        batch_size=settings.batch_size,
        count=settings.batch_size * settings.val_batches,
        seed=context.config.general.seed,
    )

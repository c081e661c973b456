"""The decoder a training with codes begins with: that of an autoencoder, or a fresh one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from instaseg.errors import ConfigError
from instaseg.models.config import CodeSettings
from instaseg.stages.context import Context

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)


def code_settings(context: Context) -> CodeSettings | None:
    """Return the table ``[method.code]``, None for methods without codes."""
    coding = context.method.coding
    return None if coding is None else coding.settings


def load_decoder(context: Context, network: nn.Module) -> None:
    """Give a network's decoder the weights of the configured autoencoder, or of the experiment's.

    A training that goes on has them in its checkpoint. A frozen decoder is frozen either way.

    Raises
    ------
    ConfigError, CheckpointError
        If there is no autoencoder for a frozen decoder, or it has another decoder.
    """
    from instaseg.inference.decoding import decoder_of
    from instaseg.training.checkpoints import list_checkpoints

    settings, coding = code_settings(context), context.method.coding
    if settings is None or coding is None:
        return
    decoder = network.get_submodule("decoder")
    if not list_checkpoints(context.experiment.checkpoints):
        source = _source(context, settings)
        if source is not None:
            decoder.load_state_dict(decoder_of(source, coding).state_dict())
            logger.info("train: the decoder begins with the weights of %s", source)
    if settings.decoder_training == "frozen":
        decoder.requires_grad_(requires_grad=False)


def check_decoder(context: Context, *, trained_before: bool) -> None:
    """Check, before any work, that the autoencoder `train` is to begin with is there and fits.

    Parameters
    ----------
    context : Context
        Configuration and experiment.
    trained_before : bool
        Whether this run trains an autoencoder before.

    Raises
    ------
    ConfigError, CheckpointError
        If it is not there, or has another decoder.
    """
    from instaseg.inference.decoding import decoder_of
    from instaseg.training.checkpoints import list_checkpoints

    settings, coding = code_settings(context), context.method.coding
    if settings is None or coding is None or list_checkpoints(context.experiment.checkpoints):
        return
    if settings.autoencoder_chkpt is None and trained_before:
        return
    source = _source(context, settings)
    if source is not None:
        decoder_of(source, coding)


def _source(context: Context, settings: CodeSettings) -> Path | None:
    """Return the checkpoint of the autoencoder, None if there is none and none is needed."""
    from instaseg.training.checkpoints import checkpoint_path, list_checkpoints

    own = context.experiment.autoencoder_folder / "checkpoints"
    chosen = settings.autoencoder_chkpt
    if chosen is not None and chosen.is_file():
        return chosen
    for folder in (own,) if chosen is None else (chosen, chosen / "checkpoints"):
        there = list_checkpoints(folder)
        if there:
            return checkpoint_path(folder, there[-1])
    if chosen is not None:
        raise ConfigError(
            f"[method.code] autoencoder_chkpt: expected a checkpoint or a folder of checkpoints,"
            f" found none at {chosen}; run --do train_autoencoder, or leave the key out"
        )
    if settings.decoder_training == "frozen":
        raise ConfigError(
            '[method.code] decoder_training = "frozen": expected a trained autoencoder, found none;'
            " run --do train_autoencoder before train, or set autoencoder_chkpt"
        )
    return None

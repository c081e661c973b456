"""The network of a setup: built from the configuration or by the setup's own code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from instaseg.data.normalization import Statistics
from instaseg.inference.predict import Predictor
from instaseg.models.network import describe_architecture
from instaseg.run.setups import load_code
from instaseg.stages.context import Context
from instaseg.training.checkpoints import (
    check_architecture,
    checkpoint_path,
    load_checkpoint,
    load_weights,
)
from instaseg.training.devices import choose_device

if TYPE_CHECKING:
    from torch import nn


OBJECT_DIAMETER = "object_diameter"
"""What a checkpoint's statistics call the typical diameter of objects in the training data."""


def untrained_network(context: Context) -> nn.Module:
    """Return the network with fresh weights.

    A setup that has ``torch_model.py`` builds it there, with a function
    ``build_network(model, data, heads)``; else the method does. Weights are drawn from the run's
    seed; other random numbers of torch are left as they were.
    """
    code, config = load_code(context.setup_code, "torch_model.py"), context.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.general.seed)
        if code is None:
            return context.method.build_network()
        network = code.build_network(config.model, config.data, context.method.heads)
    return cast("nn.Module", network)


def architecture(context: Context) -> dict[str, Any]:
    """Return what makes weights fit this network and no other."""
    config = context.config
    coding = context.method.coding
    return describe_architecture(
        config.model,
        in_channels=config.data.num_channels,
        heads=context.method.heads,
        decoder=None if coding is None else coding.architecture,
    )


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with the weights of a checkpoint.

    Parameters
    ----------
    predictor : Predictor
        The network, and how it is applied.
    statistics : Statistics
        How the training data were normalised; empty where each image is measured by itself.
    object_diameter : float, optional
        Typical diameter of objects in the training data, in voxels, where these were resized to a
        common one.
    """

    predictor: Predictor
    statistics: Statistics
    object_diameter: float | None = None


def trained_network(context: Context, checkpoint: int) -> TrainedNetwork:
    """Return the network with the averaged weights of a checkpoint, on the device.

    Each process keeps the last one, so it may be asked for again and again.

    Raises
    ------
    CheckpointError
        If the checkpoint is missing, damaged, or of another architecture.
    """
    file = checkpoint_path(context.experiment.checkpoints, checkpoint)
    state = file.stat() if file.is_file() else None
    key = (file, state and (state.st_size, state.st_mtime_ns), context.config, context.setup_code)
    if key != _loaded.get("key"):
        _loaded.clear()
        _loaded.update(key=key, network=_trained_network(context, checkpoint))
    return cast(TrainedNetwork, _loaded["network"])


_loaded: dict[str, Any] = {}


def _trained_network(context: Context, checkpoint: int) -> TrainedNetwork:
    folder, config = context.experiment.checkpoints, context.config
    state = load_checkpoint(folder, checkpoint)
    where = str(checkpoint_path(folder, checkpoint))
    check_architecture(state.architecture, architecture(context), where)
    network = untrained_network(context)
    load_weights(network, state.averaged_weights, where)
    device = choose_device(config.general.device)
    predictor = Predictor(
        network.to(device), context.method.heads, config.model, config.prediction, device
    )
    return TrainedNetwork(
        predictor, Statistics.from_dict(state.statistics), state.statistics.get(OBJECT_DIAMETER)
    )

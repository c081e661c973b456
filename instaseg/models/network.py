"""A trunk and the heads on it: what a method's network is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from instaseg.errors import ConfigError
from instaseg.methods.base import Head
from instaseg.models.unet import CONVOLUTIONS, UNet

if TYPE_CHECKING:
    from instaseg.models.config import ModelSettings

# What shapes the weights, or what they mean; the rest may change between training and prediction.
_ARCHITECTURE_FIELDS = (
    "num_fmaps",
    "fmap_inc_factors",
    "fmap_dec_factors",
    "downsample_factors",
    "kernel_size",
    "num_repetitions",
    "upsampling",
    "interpolation",
    "padding",
    "activation",
    "normalization",
)


class HeadedNetwork(nn.Module):
    """A trunk, and one 1x1 convolution at full resolution for each head.

    Parameters
    ----------
    trunk : UNet
        Gives features of every voxel.
    heads : mapping of str to int
        Channels of each head, by name, in order.
    """

    def __init__(self, trunk: UNet, heads: Mapping[str, int]) -> None:
        super().__init__()
        self.trunk = trunk
        convolution = CONVOLUTIONS[trunk.settings.ndim]
        self.heads = nn.ModuleDict(
            {name: convolution(trunk.out_channels, channels, 1) for name, channels in heads.items()}
        )

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return logits ``(B, channels, [z,] y, x)`` by head name for ``(B, C, [z,] y, x)``."""
        features = self.trunk(image)
        return {name: head(features) for name, head in self.heads.items()}


def build_network(
    settings: ModelSettings, *, in_channels: int, ndim: int, heads: Sequence[Head]
) -> HeadedNetwork:
    """Return a U-Net with heads, its weights drawn from torch's random generator.

    Parameters
    ----------
    settings : ModelSettings
        Table ``[model]``.
    in_channels : int
        Channels of the images.
    ndim : {2, 3}
        Spatial axes of the images.
    heads : sequence of Head
        Outputs; their `channels` count.

    Raises
    ------
    ConfigError
        If the table describes a network of another number of axes.
    """
    if settings.ndim != ndim:
        raise ConfigError(
            f"[model] train_input_shape: expected {ndim} axes because data.ndim = {ndim}; found"
            f" {list(settings.train_input_shape)}. Set train_input_shape, test_input_shape and"
            f" downsample_factors with {ndim} axes, or change data.ndim"
        )
    trunk = UNet(settings, in_channels=in_channels)
    return HeadedNetwork(trunk, {head.name: head.channels for head in heads})


def describe_architecture(
    settings: ModelSettings, *, in_channels: int, heads: Sequence[Head]
) -> dict[str, Any]:
    """Return what makes the weights of one network unfit for another, as plain values.

    Stored in checkpoints and compared when they are loaded. Keys are those of the configuration
    where there is one.
    """
    described = settings.model_dump(mode="json")
    return {
        "ndim": settings.ndim,
        "num_channels": in_channels,
        **{f"model.{name}": described[name] for name in _ARCHITECTURE_FIELDS},
        **{f"head {head.name}": f"{head.channels} channels, {head.activation}" for head in heads},
    }


def activate(head: Head, logits: Tensor) -> Tensor:
    """Return what a head's logits ``(B, channels, [z,] y, x)`` mean, as float32."""
    logits = logits.float()
    match head.activation:
        case "sigmoid":
            return torch.sigmoid(logits)
        case "softmax":
            return torch.softmax(logits, dim=1)
        case "none":
            return logits

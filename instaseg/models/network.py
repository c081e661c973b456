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
    sampled : str, optional
        The head that is evaluated at chosen voxels only, where there are any.
    decoder : Module, optional
        Turns what the sampled head predicts at a voxel, as probabilities ``(n, channels)``, into
        the logits of a patch ``(n, K)``.
    """

    def __init__(
        self,
        trunk: UNet,
        heads: Mapping[str, int],
        *,
        sampled: str | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        convolution = CONVOLUTIONS[trunk.settings.ndim]
        self.heads = nn.ModuleDict(
            {name: convolution(trunk.out_channels, channels, 1) for name, channels in heads.items()}
        )
        self.decoder = decoder
        self._sampled = sampled

    def forward(self, image: Tensor, sites: Tensor | None = None) -> dict[str, Tensor]:
        """Return logits by head name.

        Parameters
        ----------
        image : Tensor
            ``(B, C, [z,] y, x)``.
        sites : Tensor, optional
            ``(n,)`` positions in the flat output ``B, [z,] y, x`` where patches are wanted.

        Returns
        -------
        dict of str to Tensor
            ``(B, channels, [z,] y, x)`` of each head; with `sites`, in place of the sampled head,
            ``patches`` ``(n, K)``: what it predicts there, decoded if there is a decoder. Training
            so needs neither time nor memory for the other voxels.
        """
        features = self.trunk(image)
        outputs: dict[str, Tensor] = {}
        for name, head in self.heads.items():
            if sites is not None and name == self._sampled:
                outputs["patches"] = self._patches(features, head, sites)
            else:
                outputs[name] = head(features)
        return outputs

    def _patches(self, features: Tensor, head: nn.Module, sites: Tensor) -> Tensor:
        # index_select, for its gradient is summed much faster than that of features[sites].
        rows = features.movedim(1, -1).flatten(0, -2).index_select(0, sites)
        ones = (1,) * (features.ndim - 2)
        logits: Tensor = head(rows.reshape(*rows.shape, *ones)).flatten(1)
        if self.decoder is None:
            return logits
        decoded: Tensor = self.decoder(logits.sigmoid())
        return decoded


def build_network(
    settings: ModelSettings,
    *,
    in_channels: int,
    ndim: int,
    heads: Sequence[Head],
    decoder: nn.Module | None = None,
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
        Outputs; their `channels` count. The first is the one that is evaluated at chosen voxels.
    decoder : Module, optional
        What turns the first head's probabilities ``(n, channels)`` into patches.

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
    channels = {head.name: head.channels for head in heads}
    return HeadedNetwork(trunk, channels, sampled=heads[0].name, decoder=decoder)


def describe_architecture(
    settings: ModelSettings,
    *,
    in_channels: int,
    heads: Sequence[Head],
    decoder: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what makes the weights of one network unfit for another, as plain values.

    Stored in checkpoints and compared when they are loaded. Keys are those of the configuration
    where there is one; `decoder` is the description of the decoder, if the network has one.
    """
    described = settings.model_dump(mode="json")
    return {
        "ndim": settings.ndim,
        "num_channels": in_channels,
        **{f"model.{name}": described[name] for name in _ARCHITECTURE_FIELDS},
        **{f"head {head.name}": f"{head.channels} channels, {head.activation}" for head in heads},
        **(decoder or {}),
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

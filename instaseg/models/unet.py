"""U-Net for images and volumes.

Shapes: ``B`` batch, ``C`` channels of the input, ``F`` feature maps, ``ZYX`` space (``YX`` in 2-D).

The way down: a convolution pass, then pooling, at each level. The way up: upsampling, the features
of the way down cut to the same size and put beside it, a convolution pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from instaseg.models import shapes

if TYPE_CHECKING:
    from instaseg.models.config import ModelSettings

# Layers by number of axes. Their classes share no base that types their arguments, hence Any.
CONVOLUTIONS: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOLINGS: dict[int, Any] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
BATCH_NORMS: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
LINEAR_MODES = {2: "bilinear", 3: "trilinear"}


def _activation(name: str) -> nn.Module:
    match name:
        case "relu":
            return nn.ReLU(inplace=True)
        case "leaky_relu":
            return nn.LeakyReLU(0.01, inplace=True)
        case "elu":
            return nn.ELU()
        case "gelu":
            return nn.GELU()
        case _:
            return nn.SiLU()


class ConvPass(nn.Sequential):
    """Convolutions in a row, each followed by normalisation, if any, and activation.

    Parameters
    ----------
    fmaps_in, fmaps_out : int
        Feature maps before and after.
    settings : ModelSettings
        Kernel, repetitions, padding, activation and normalisation.
    """

    def __init__(self, fmaps_in: int, fmaps_out: int, settings: ModelSettings) -> None:
        layers: list[nn.Module] = []
        normalized = settings.normalization == "batch"
        for repetition in range(settings.num_repetitions):
            convolution = CONVOLUTIONS[settings.ndim](
                fmaps_in if repetition == 0 else fmaps_out,
                fmaps_out,
                settings.kernel,
                padding=settings.padding if settings.padding == "same" else 0,
                bias=not normalized,
            )
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)
            layers.append(convolution)
            if normalized:
                layers.append(BATCH_NORMS[settings.ndim](fmaps_out))
            layers.append(_activation(settings.activation))
        super().__init__(*layers)


class Upsampling(nn.Module):
    """The way from one level up to the next.

    `resize_conv` is an interpolation and a 1x1 convolution. The two commute, so the convolution
    goes first, where there are fewer voxels.

    Parameters
    ----------
    fmaps_in, fmaps_out : int
        Feature maps of the lower level, and what becomes of them.
    factor : tuple of int
        Magnification per axis.
    settings : ModelSettings
        Kind of upsampling and padding.
    """

    def __init__(
        self, fmaps_in: int, fmaps_out: int, *, factor: tuple[int, ...], settings: ModelSettings
    ) -> None:
        super().__init__()
        ndim = settings.ndim
        self.crop = tuple(shapes.smoothing(settings, f) for f in factor)
        if settings.upsampling == "trans_conv":
            self.layers: nn.Module = TRANSPOSED[ndim](fmaps_in, fmaps_out, factor, stride=factor)
            return
        linear = settings.interpolation == "linear"
        scale: Any = tuple(float(f) for f in factor)
        self.layers = nn.Sequential(
            CONVOLUTIONS[ndim](fmaps_in, fmaps_out, 1),
            nn.Upsample(scale_factor=scale, mode=LINEAR_MODES[ndim] if linear else "nearest"),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(B, fmaps_out, [f z,] f y, f x)`` for ``(B, fmaps_in, [z,] y, x)``."""
        upsampled: Tensor = self.layers(features)
        inner = [n - 2 * c for n, c in zip(upsampled.shape[2:], self.crop, strict=True)]
        return centre_crop(upsampled, inner)


def centre_crop(features: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the middle part ``(B, F, *shape)`` of ``(B, F, *space)``; a view."""
    for axis, size in enumerate(shape, start=2):
        begin = (features.shape[axis] - size) // 2
        features = features.narrow(axis, begin, size)
    return features


class UNet(nn.Module):
    """U-Net with any reduction per level and axis.

    Parameters
    ----------
    settings : ModelSettings
        Its size and kind.
    in_channels : int
        Channels of the input.
    """

    def __init__(self, settings: ModelSettings, *, in_channels: int) -> None:
        super().__init__()
        self.settings = settings
        down, up = settings.fmaps_down, settings.fmaps_up
        self.out_channels = up[0]
        before = (in_channels, *down)
        self.down = nn.ModuleList(
            ConvPass(before[level], down[level], settings) for level in range(len(down))
        )
        self.pool = nn.ModuleList(POOLINGS[settings.ndim](factor) for factor in settings.factors)
        levels = range(len(settings.factors))
        self.upsample = nn.ModuleList(
            Upsampling(up[level + 1], up[level], factor=settings.factors[level], settings=settings)
            for level in levels
        )
        self.up = nn.ModuleList(
            ConvPass(down[level] + up[level], up[level], settings) for level in levels
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return features of every output voxel.

        Parameters
        ----------
        image : Tensor
            ``(B, C, [z,] y, x)``, float.

        Returns
        -------
        Tensor
            ``(B, F, [z,] y, x)``; smaller than the image by twice the halo if padding is `valid`.

        Raises
        ------
        ConfigError
            If the levels do not fit the shape.
        """
        shapes.check_input_shape(image.shape[2:], self.settings, "input of the network")
        skipped = []
        features: Tensor = image
        for conv_pass, pool in zip(self.down, self.pool, strict=False):
            features = conv_pass(features)
            skipped.append(features)
            features = pool(features)
        features = self.down[-1](features)
        for level in reversed(range(len(self.up))):
            upsampled = self.upsample[level](features)
            skip = centre_crop(skipped.pop(), upsampled.shape[2:])
            features = self.up[level](torch.cat((skip, upsampled), dim=1))
        return features

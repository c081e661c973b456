"""Patch codes: the decoder that turns a code into a patch, and the encoder of an autoencoder.

Shapes: ``n`` patches, ``U`` numbers of a code, ``K`` voxels of a patch. A code is a few small maps;
each step doubles their sides, and what is beyond the patch is cut off at once, so that nothing is
computed in vain::

    code (n, 252) -> (n, 7, 6, 6) -> 11 x 11 -> 21 x 21 -> 41 x 41 -> (n, 1681)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d, conv_transpose3d

from instaseg.errors import ConfigError
from instaseg.models.config import CodeSettings
from instaseg.models.unet import CONVOLUTIONS, POOLINGS, TRANSPOSED, centre_crop

# What shapes the decoder's weights, or what they mean.
_ARCHITECTURE_FIELDS = ("code_units", "decoder_fmaps", "upsampling", "kind")


class _Step(nn.Module):
    """Twice the size, then features of it.

    Parameters
    ----------
    fmaps_in, fmaps_out : int
        Feature maps before and after.
    size : tuple of int
        What is left of the enlarged maps, in voxels.
    upsampling : {"resize_conv", "trans_conv"}
        Nearest neighbours and a convolution of side 3, or a transposed convolution of side 4.
    """

    def __init__(
        self, fmaps_in: int, fmaps_out: int, *, size: tuple[int, ...], upsampling: str
    ) -> None:
        super().__init__()
        self._size = size
        self._resizes = upsampling == "resize_conv"
        side = 3 if self._resizes else 4
        layers = CONVOLUTIONS if self._resizes else TRANSPOSED
        self.convolution: Any = _initialised(layers[len(size)](fmaps_in, fmaps_out, side))
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(n, fmaps_out, *size)`` for ``(n, fmaps_in, ...)`` of half the size."""
        weight: Tensor = self.convolution.weight
        if self._resizes:
            weight = _as_transposed(weight)
        transposed = conv_transpose2d if len(self._size) == 2 else conv_transpose3d
        enlarged = transposed(features, weight, self.convolution.bias, stride=2, padding=1)
        activated: Tensor = self.activation(centre_crop(enlarged, self._size))
        return activated


def _as_transposed(weight: Tensor) -> Tensor:
    """Return weights ``(in, out, 4, ...)`` that do what nearest neighbours and `weight` do.

    Nearest neighbours of twice the size and a convolution of side 3 are a transposed convolution
    of side 4 and stride 2, which takes a third of the time, since it works on the small maps.

    Parameters
    ----------
    weight : Tensor
        ``(out, in, 3, ...)`` of the convolution.
    """
    for _ in range(weight.ndim - 2):
        left, middle, right = weight.unbind(2)
        # The axis that was third goes to the end, so that all have their turn.
        weight = torch.stack((right, middle + right, left + middle, left), dim=-1)
    return weight.transpose(0, 1)


class PatchDecoder(nn.Module):
    """Codes to patches.

    Parameters
    ----------
    settings : CodeSettings
        Table ``[method.code]``.
    patch_shape : sequence of int
        Odd sides in voxels.

    Raises
    ------
    ConfigError
        If the code does not fit the patch; names the nearest that does.
    """

    def __init__(self, settings: CodeSettings, patch_shape: Sequence[int]) -> None:
        super().__init__()
        check_code(settings, patch_shape)
        smallest, *sizes = settings.sizes(patch_shape)
        fmaps = settings.decoder_fmaps
        self.code_shape = (settings.code_units // math.prod(smallest), *smallest)
        self.read = nn.Sequential(
            _code_convolution(settings, self.code_shape[0], fmaps[0], len(smallest)),
            nn.ReLU(inplace=True),
        )
        self.steps = nn.ModuleList(
            _Step(before, after, size=size, upsampling=settings.upsampling)
            for before, after, size in zip((fmaps[0], *fmaps), fmaps, sizes, strict=False)
        )
        self.write = CONVOLUTIONS[len(smallest)](fmaps[-1], 1, 1)

    def forward(self, codes: Tensor) -> Tensor:
        """Return the logits ``(n, K)`` of patches for codes ``(n, U)`` between 0 and 1."""
        # Near its middle, the sigmoid is taken back: codes begin as different as their logits are.
        centred = (codes.reshape(-1, *self.code_shape) - 0.5) * 4.0
        features: Tensor = self.read(centred)
        for step in self.steps:
            features = step(features)
        logits: Tensor = self.write(features)
        return logits.flatten(1)


class PatchAutoencoder(nn.Module):
    """Patches to codes and back; its decoder is that of a network which predicts codes.

    Parameters
    ----------
    settings : CodeSettings
        Table ``[method.code]``.
    patch_shape : sequence of int
        Odd sides in voxels.
    """

    def __init__(self, settings: CodeSettings, patch_shape: Sequence[int]) -> None:
        super().__init__()
        self.decoder = PatchDecoder(settings, patch_shape)
        ndim = len(patch_shape)
        fmaps = settings.decoder_fmaps[::-1]
        layers: list[nn.Module] = []
        for before, after in zip((1, *fmaps), fmaps, strict=False):
            layers += [
                _initialised(CONVOLUTIONS[ndim](before, after, 3, padding=1)),
                nn.ReLU(inplace=True),
                # Sizes are rounded up, as the decoder's are.
                POOLINGS[ndim](2, ceil_mode=True),
            ]
        layers.append(_code_convolution(settings, fmaps[-1], self.decoder.code_shape[0], ndim))
        self.encoder = nn.Sequential(*layers)

    def forward(self, patches: Tensor) -> dict[str, Tensor]:
        """Return the logits ``(n, K)`` as ``patches`` for patches ``(n, 1, [z,] y, x)``."""
        codes = self.encoder(patches).flatten(1).sigmoid()
        return {"patches": self.decoder(codes)}


def check_code(settings: CodeSettings, patch_shape: Sequence[int]) -> None:
    """Check that a code fits a patch.

    Raises
    ------
    ConfigError
        If it does not.
    """
    problem = settings.problem(patch_shape)
    if problem:
        raise ConfigError(f"[method.code] {problem}")


def describe_decoder(settings: CodeSettings, patch_shape: Sequence[int]) -> dict[str, Any]:
    """Return what makes the weights of one decoder unfit for another, as plain values."""
    described = settings.model_dump(mode="json")
    return {
        "method.patch_shape": list(patch_shape),
        **{f"method.code.{name}": described[name] for name in _ARCHITECTURE_FIELDS},
    }


def decoder_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the decoder's part of the weights of a network that has one."""
    prefix = "decoder."
    return {
        name.removeprefix(prefix): weight
        for name, weight in weights.items()
        if name.startswith(prefix)
    }


def _code_convolution(
    settings: CodeSettings, fmaps_in: int, fmaps_out: int, ndim: int
) -> nn.Module:
    side = 3 if settings.kind == "conv" else 1
    return _initialised(CONVOLUTIONS[ndim](fmaps_in, fmaps_out, side, padding=side // 2))


def _initialised(convolution: Any) -> nn.Module:
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    nn.init.zeros_(convolution.bias)
    module: nn.Module = convolution
    return module

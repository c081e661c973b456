"""Patch codes as part of the method: its decoder, and the autoencoder that may train it first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from instaseg.geometry import Coordinate
from instaseg.methods.base import Decode, Head
from instaseg.methods.patches.config import LabelSettings
from instaseg.methods.patches.stored import decode_patches, foreground_probability
from instaseg.models.config import CodeSettings

if TYPE_CHECKING:
    from torch import Tensor

    from instaseg.models.decoder import PatchAutoencoder, PatchDecoder


class PatchCoding:
    """Codes of patches.

    Parameters
    ----------
    settings : CodeSettings
        Table ``[method.code]``.
    patch_shape : tuple of int
        Odd sides in voxels.
    decoded : Head
        What codes are decoded to.
    decodes_in : {"stage", "label"}
        Where.
    """

    def __init__(
        self,
        settings: CodeSettings,
        patch_shape: Coordinate,
        *,
        decoded: Head,
        decodes_in: Literal["stage", "label"],
    ) -> None:
        self.settings = settings
        self.patch_shape = patch_shape
        self.decoded = decoded
        self.decodes_in = decodes_in

    @cached_property
    def architecture(self) -> Mapping[str, Any]:
        """What makes the decoder's weights unfit for another one, as plain values."""
        from instaseg.models.decoder import describe_decoder

        return describe_decoder(self.settings, self.patch_shape)

    def decoder(self) -> PatchDecoder:
        """Return a fresh decoder: codes ``(n, units)`` in, logits ``(n, K)`` out."""
        from instaseg.models.decoder import PatchDecoder

        return PatchDecoder(self.settings, self.patch_shape)

    def autoencoder(self) -> PatchAutoencoder:
        """Return a fresh autoencoder: patches ``(n, 1, [z,] y, x)`` in, logits out.

        They are ``patches`` ``(n, K)`` in a dict, as the loss reads them.
        """
        from instaseg.models.decoder import PatchAutoencoder

        return PatchAutoencoder(self.settings, self.patch_shape)

    def patches(self, batch: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
        """Return true patches of a batch of crops, ``raw`` ``(n, 1, [z,] y, x)`` float32."""
        from instaseg.methods.known import instance_count
        from instaseg.methods.patches.loss import draw_sites, patch_targets

        labels = batch["labels"]
        alone = instance_count(labels, [side // 2 for side in self.patch_shape]) == 1
        sites = draw_sites(alone, self.settings.patches_per_crop, seed)
        targets = patch_targets(labels, self.patch_shape, sites)
        return {"raw": targets.float().reshape(-1, 1, *self.patch_shape)}

    def autoencoder_loss(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean binary cross entropy of patches that were coded and decoded."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        logits = outputs["patches"].float()
        if not len(logits):
            nothing = logits.sum() * 0.0
            return nothing, {"patch": nothing}
        loss = binary_cross_entropy_with_logits(logits, batch["raw"].flatten(1))
        return loss, {"patch": loss}

    def decode(
        self,
        prediction: Mapping[str, NDArray[Any]],
        parameters: Sequence[LabelSettings],
        decode: Decode,
    ) -> NDArray[Any]:
        """Return the patches ``(K, [z,] y, x)`` of a prediction, or a part of one, with codes.

        Patches are decoded where any of the parameter sets sees foreground, and 0 elsewhere: no
        others are used.
        """
        probability = foreground_probability(prediction)
        assert probability is not None  # codes come with a head for the foreground
        least = np.float32(min(one.fg_threshold for one in parameters))
        size = self.decoded.channels
        return decode_patches(prediction["code"], probability > least, decode, patch_size=size)

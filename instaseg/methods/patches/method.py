"""PatchPerPix as a method: heads, targets, loss, labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from instaseg.data.config import DataSettings
from instaseg.errors import ConfigError
from instaseg.geometry import Coordinate, Symmetry
from instaseg.inference.quantise import dequantise
from instaseg.methods.base import Head
from instaseg.methods.patches.assembly import sweep
from instaseg.methods.patches.config import LabelSettings, PatchesSettings
from instaseg.models.config import ModelSettings

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class PatchHead(Head):
    """A head whose channels are the voxels of a patch, in raster order.

    Parameters
    ----------
    patch_shape : tuple of int
        Odd sides in voxels; their product is `channels`.
    """

    patch_shape: Coordinate

    def turn(self, prediction: NDArray[Any], symmetry: Symmetry) -> NDArray[Any]:
        """Return the prediction of the turned image: the patch turns with the image."""
        space = symmetry.apply(prediction)
        turned_shape = tuple(self.patch_shape[axis] for axis in symmetry.permutation)
        if turned_shape != self.patch_shape:
            raise ConfigError(
                f"[prediction] symmetries: expected a patch with equal sides to turn, found"
                f" method.patch_shape = {list(self.patch_shape)}; use symmetries = 'flips'"
            )
        patches = space.reshape(*self.patch_shape, *space.shape[1:])
        first = np.moveaxis(patches, range(len(self.patch_shape)), range(-len(self.patch_shape), 0))
        turned = symmetry.apply(first)
        back = np.moveaxis(turned, range(-len(self.patch_shape), 0), range(len(self.patch_shape)))
        return back.reshape(space.shape)


class PatchesMethod:
    """Predicts, at every pixel, which pixels around it belong to the same instance.

    Parameters
    ----------
    settings : PatchesSettings
        Table ``[method]``.
    model : ModelSettings
        Trunk of the network.
    data : DataSettings
        Dimensions and channels of the images.
    """

    def __init__(
        self, settings: PatchesSettings, *, model: ModelSettings, data: DataSettings
    ) -> None:
        self.settings = settings
        self._model = model
        self._data = data
        self.patch_shape = settings.patch_shape
        self.context = tuple(side // 2 for side in settings.patch_shape)
        self.margin = self.context if settings.border == "mirror" else (0,) * len(self.context)
        patch = PatchHead(
            name="affs",
            channels=int(np.prod(settings.patch_shape)),
            activation="sigmoid",
            key="volumes/pred_affs",
            patch_shape=settings.patch_shape,
        )
        foreground = Head(name="fgbg", channels=1, activation="sigmoid", key="volumes/pred_fgbg")
        self.heads: tuple[Head, ...] = (
            (patch, foreground) if settings.foreground == "head" else (patch,)
        )

    def build_network(self) -> nn.Module:
        """Return a U-Net with one 1x1 convolution per head."""
        from instaseg.models.network import build_network

        return build_network(
            self._model, in_channels=self._data.num_channels, ndim=self._data.ndim, heads=self.heads
        )

    def targets(self, labels: NDArray[Any], spacing: Sequence[float]) -> dict[str, NDArray[Any]]:
        """Return nothing: patches are too large for a worker queue and are cut in the loss."""
        del labels, spacing
        return {}

    def loss(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of patch and foreground loss, and both.

        With a foreground head, patches count where an instance lies, since assembly uses no
        others; without one their centre is the foreground, so they count everywhere.
        """
        from instaseg.methods.patches.loss import foreground_loss, inner_labels, patch_loss

        known = batch["mask"].bool()
        foreground = inner_labels(batch["labels"], self.context) > 0
        with_head = self.settings.foreground == "head"
        parts = {
            "patch": patch_loss(
                outputs["affs"],
                batch["labels"],
                patch_shape=self.patch_shape,
                chosen=known & foreground if with_head else known,
            )
        }
        total = self.settings.patch_weight * parts["patch"]
        if with_head:
            parts["foreground"] = foreground_loss(outputs["fgbg"], foreground, known)
            total = total + self.settings.fg_weight * parts["foreground"]
        return total, parts

    def label(
        self, prediction: Mapping[str, NDArray[Any]], parameters: Sequence[LabelSettings]
    ) -> Iterator[NDArray[Any]]:
        """Yield instances for each set of parameters; the margin is cut off."""
        affinities = prediction["affs"]
        probability = dequantise(prediction["fgbg"][0]) if "fgbg" in prediction else None
        inner = tuple(
            slice(m, n - m) for m, n in zip(self.margin, affinities.shape[1:], strict=True)
        )
        for instances in sweep(
            affinities, probability, patch_shape=self.patch_shape, settings=parameters
        ):
            yield instances[(slice(None),) * (instances.ndim - len(inner)) + inner]

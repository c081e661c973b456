"""Semantic segmentation as a method: head, loss, classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.grid import automatic_block_shape
from instaseg.blockwise.work import BlockLabels, BlockWork
from instaseg.data.config import Beyond, DataSettings
from instaseg.geometry import Coordinate
from instaseg.io.stored_heads import StoredHeads
from instaseg.methods.base import Decode, Device, Head, Result
from instaseg.methods.semantic.config import LabelSettings, SemanticSettings
from instaseg.methods.semantic.decode import classes_of, label_blocks
from instaseg.methods.semantic.quality import quality, quality_names
from instaseg.models.config import ModelSettings

if TYPE_CHECKING:
    from torch import Tensor, nn


MOST_VALUES = 2**28
"""Probabilities of a prediction that is labelled as a whole; larger ones in blocks."""


class SemanticMethod:
    """Predicts the class of every voxel.

    Parameters
    ----------
    settings : SemanticSettings
        Table ``[method]``.
    model : ModelSettings
        Trunk of the network.
    data : DataSettings
        Dimensions and channels of the images.
    """

    result: Result = "classes"
    labels_beyond: Beyond = "mirrored"
    overlapping = False
    labels_may_overlap = False
    instance_classes = 0
    coding = None

    def __init__(
        self, settings: SemanticSettings, *, model: ModelSettings, data: DataSettings
    ) -> None:
        self.settings = settings
        self._model = model
        self._data = data
        self.class_map = settings.class_map
        self.context: Coordinate = (0,) * data.ndim
        self.margin: Coordinate = (0,) * data.ndim
        head = (
            Head("classes", 1, "sigmoid", "volumes/pred_classes")
            if settings.num_classes == 2
            else Head("classes", settings.num_classes, "softmax", "volumes/pred_classes")
        )
        self.heads: tuple[Head, ...] = (head,)

    @property
    def labelled_heads(self) -> tuple[Head, ...]:
        """The heads that ``label`` reads: all."""
        return self.heads

    def build_network(self) -> nn.Module:
        """Return a U-Net with one 1x1 convolution."""
        from instaseg.models.network import build_network

        return build_network(
            self._model,
            in_channels=self._data.num_channels,
            ndim=self._data.ndim,
            heads=self.heads,
        )

    def targets(self, labels: NDArray[Any], spacing: Sequence[float]) -> dict[str, NDArray[Any]]:
        """Return nothing: the labels of a crop are the classes already."""
        del labels, spacing
        return {}

    def sites(self, batch: Mapping[str, Tensor], seed: int) -> None:
        """Return None: every voxel is compared."""
        del batch, seed

    def loss(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of cross entropy and Dice loss, both, and the crops' error."""
        from instaseg.methods.losses import class_entropy
        from instaseg.methods.semantic.loss import crop_error, dice_loss, voxel_weight

        settings, logits = self.settings, outputs["classes"]
        classes = batch["labels"][:, 0]
        weight = voxel_weight(classes, batch["mask"], settings.mask_bg_weight)
        parts = {}
        total = logits.sum() * 0.0
        if settings.ce_weight > 0:
            parts["ce"] = class_entropy(logits, classes, weight, settings.class_weights)
            total = total + settings.ce_weight * parts["ce"]
        if settings.dice_weight > 0:
            parts["dice"] = dice_loss(logits, classes, weight)
            total = total + settings.dice_weight * parts["dice"]
        # not learnt from: what the validation loss is for a user who thinks in IoU
        parts["iou_error"] = crop_error(logits, classes, weight)
        return total, parts

    def label(
        self,
        prediction: Mapping[str, NDArray[Any]],
        parameters: Sequence[LabelSettings],
        *,
        decode: Decode | None = None,
        device: Device = "cpu",
    ) -> Iterator[NDArray[np.uint8]]:
        """Yield the class of every voxel for each set of parameters."""
        del decode, device
        for settings in parameters:
            yield classes_of(prediction["classes"], settings)

    def block_shape(self, shape: Sequence[int]) -> Coordinate | None:
        """Return a block of a prediction of `shape` that fits in memory; None if all of it does."""
        channels = self.heads[0].channels
        block = automatic_block_shape(
            shape, most=MOST_VALUES // channels, least=(1,) * len(self.context)
        )
        return None if block == tuple(shape) else block

    def label_blocks(
        self,
        path: Path,
        parameters: LabelSettings,
        work: BlockWork,
        *,
        decode: Decode | None = None,
    ) -> BlockLabels:
        """Find the classes of a stored prediction block by block; the same that `label` gives."""
        del decode
        source = StoredHeads(path, {head.name: head.key for head in self.heads})
        return label_blocks(source, parameters, work)

    @property
    def quality_names(self) -> tuple[str, ...]:
        """Dotted names of the scores :meth:`prediction_quality` gives."""
        return quality_names()

    def prediction_quality(
        self,
        prediction: Mapping[str, NDArray[Any]],
        truth: NDArray[Any],
        mask: NDArray[Any] | None,
        *,
        decode: Decode | None = None,
    ) -> dict[str, float]:
        """Return how well the probabilities agree with the true classes, -1 where there is none."""
        del mask, decode
        return quality(prediction["classes"], truth, self.settings.num_classes)

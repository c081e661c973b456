"""Channels as a method: heads, targets, loss, labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.work import BlockLabels, BlockWork
from instaseg.data.config import Beyond, DataSettings
from instaseg.errors import ConfigError
from instaseg.geometry import Coordinate
from instaseg.methods.base import Coding, Decode, Device, Head, Result
from instaseg.methods.channels.config import ChannelsSettings, LabelSettings
from instaseg.methods.channels.heads import head_of
from instaseg.methods.channels.registry import channels_of, context_of, far_context
from instaseg.methods.instance_classes import class_heads, with_class_loss
from instaseg.models.config import ModelSettings
from instaseg.settings import Table

if TYPE_CHECKING:
    from torch import Tensor, nn


class ChannelsMethod:
    """Predicts what stands at every voxel, from which instances are put together.

    Parameters
    ----------
    settings : ChannelsSettings
        Table ``[method]``.
    model : ModelSettings
        Trunk of the network.
    data : DataSettings
        Dimensions and channels of the images.

    Raises
    ------
    ConfigError
        If a channel does not fit the images.
    """

    result: Result = "instances"
    class_map = None
    labels_beyond: Beyond = "unknown"
    overlapping = False
    labels_may_overlap = False
    coding: Coding | None = None

    def __init__(
        self, settings: ChannelsSettings, *, model: ModelSettings, data: DataSettings
    ) -> None:
        if "ridge" in settings.channels and settings.ridge.scale == "image":
            raise ConfigError(
                '[method.ridge] scale: expected "instance", found "image", which divides by the'
                " largest distance of a whole image, as Dv2 did before 3.0: a crop does not show"
                ' it; set scale = "instance"'
            )
        self.settings = settings
        self.channels = channels_of(settings, data.ndim)
        """What is predicted, in the order of the heads."""
        self._model = model
        self._data = data
        self.context = context_of(self.channels)
        if settings.border_weight.strength > 0:
            self.context = far_context(settings, data.ndim)
        self.margin = (0,) * data.ndim
        self.spacing = data.voxel_size or (1.0,) * data.ndim
        """Size of a voxel, in physical units, that predictions are decoded with."""
        self.instance_classes = settings.instance_classes.count
        self._own: tuple[Head, ...] = tuple(head_of(channel) for channel in self.channels)
        self.heads = (*self._own, *class_heads(settings.instance_classes))

    def build_network(self) -> nn.Module:
        """Return a U-Net with one 1x1 convolution per channel."""
        from instaseg.models.network import build_network

        return build_network(
            self._model,
            in_channels=self._data.num_channels,
            ndim=self._data.ndim,
            heads=self.heads,
        )

    def targets(self, labels: NDArray[Any], spacing: Sequence[float]) -> dict[str, NDArray[Any]]:
        """Return the targets of a crop, by channel: bytes of 0 and 1, or float32.

        With them are the border weights, if there are any. Where a crop leaves the image, targets
        are 0.
        """
        from instaseg.data.crops import targets_inside

        return targets_inside(labels, self.context, partial(self._targets, spacing=spacing))

    def _targets(
        self, labels: NDArray[Any], inner: tuple[slice, ...], *, spacing: Sequence[float]
    ) -> dict[str, NDArray[Any]]:
        """Return the targets of all labels; what is slow is made for a part of them only."""
        from instaseg.methods.channels.instances import Instances
        from instaseg.methods.channels.loss import BORDER_WEIGHT
        from instaseg.methods.channels.targets import target
        from instaseg.methods.channels.targets_distances import border_weight

        instances = Instances(labels[0], spacing, inner)
        found: dict[str, NDArray[Any]] = {
            one.name: target(one, instances, self.settings) for one in self.channels
        }
        if self.settings.border_weight.strength > 0:
            found[BORDER_WEIGHT] = border_weight(instances, self.settings.border_weight)[None]
        return {
            name: values.astype(np.uint8 if values.dtype == bool else np.float32, copy=False)
            for name, values in found.items()
        }

    def sites(self, batch: Mapping[str, Tensor], seed: int) -> None:
        """Return None: heads are small and are evaluated everywhere."""
        del batch, seed

    def loss(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of the channels' losses, and each of them.

        Background where labels are incomplete counts as much as `mask_bg_weight` says.
        """
        from instaseg.methods.channels.loss import (
            BORDER_WEIGHT,
            channel_loss,
            total_loss,
            value_weights,
        )
        from instaseg.methods.known import inside_image, instance_count, known_weight

        count = instance_count(batch["labels"], self.context)
        known = known_weight(count, batch["mask"], self.settings.mask_bg_weight)
        known = known * inside_image(batch["labels"], self.context)
        parts: dict[str, Tensor] = {}
        for channel in self.channels:
            target = batch[channel.name]
            weight = value_weights(
                channel,
                target,
                known,
                foreground=count > 0,
                settings=self.settings,
                border=batch.get(BORDER_WEIGHT),
            )
            parts[channel.name] = channel_loss(channel, outputs[channel.name], target, weight)
        loss = total_loss(parts, self.settings), parts
        return with_class_loss(loss, outputs, batch, self.settings.instance_classes)

    @property
    def labelled_heads(self) -> tuple[Head, ...]:
        """Those of the channels."""
        return self._own

    def label(
        self,
        prediction: Mapping[str, NDArray[Any]],
        parameters: Sequence[LabelSettings],
        *,
        decode: Decode | None = None,
        device: Device = "cpu",
    ) -> Iterator[NDArray[Any]]:
        """Yield instances ``([z,] y, x)`` for each set of parameters."""
        from instaseg.methods.channels.decoding import label_prediction

        del decode, device
        yield from label_prediction(
            prediction, parameters, settings=self.settings, spacing=self.spacing
        )

    def check_arrays(
        self, prediction: Mapping[str, NDArray[Any]], parameters: Table
    ) -> dict[str, NDArray[Any]]:
        """Return seeds, mask and surface if `check_files` asks for them."""
        from instaseg.methods.channels.decoding import check_arrays

        if not isinstance(parameters, LabelSettings) or parameters.check_files == "none":
            return {}
        return check_arrays(prediction, parameters, settings=self.settings, spacing=self.spacing)

    def block_shape(self, shape: Sequence[int]) -> Coordinate | None:
        """Return a block of a prediction of `shape` that fits in memory; None if all of it does."""
        from instaseg.methods.channels.blocks import block_shape

        return block_shape(shape, self._own)

    def check_blocks(self, parameters: LabelSettings) -> None:
        """Check that a stored prediction can be labelled block by block with these parameters.

        Raises
        ------
        ConfigError
            If they need the whole.
        """
        from instaseg.methods.channels.blocks import check_parameters

        check_parameters(parameters, self.settings)

    def label_blocks(
        self,
        path: Path,
        parameters: LabelSettings,
        work: BlockWork,
        *,
        decode: Decode | None = None,
    ) -> BlockLabels:
        """Label a stored prediction block by block, with the partition of :meth:`label`."""
        from instaseg.methods.channels.blocks import label_blocks

        del decode
        return label_blocks(path, parameters, work, settings=self.settings, spacing=self.spacing)

    @property
    def quality_names(self) -> tuple[str, ...]:
        """``<channel>.IoU`` of binary channels, ``<channel>.minus_mae`` of all others."""
        from instaseg.methods.channels.quality import quality_name

        return tuple(quality_name(channel) for channel in self.channels)

    def prediction_quality(
        self,
        prediction: Mapping[str, NDArray[Any]],
        truth: NDArray[Any],
        mask: NDArray[Any] | None,
        *,
        decode: Decode | None = None,
    ) -> dict[str, float]:
        """Return how well each channel agrees with the one made from the ground truth."""
        from instaseg.methods.channels.quality import quality

        del decode
        return quality(
            prediction,
            truth,
            mask,
            channels=self.channels,
            settings=self.settings,
            spacing=self.spacing,
        )

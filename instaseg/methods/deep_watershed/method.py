"""The method ``deep_watershed``: foreground, directions and depth, cut into instances."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.grid import automatic_block_shape
from instaseg.blockwise.work import BlockLabels, BlockWork
from instaseg.data.config import Beyond, DataSettings
from instaseg.errors import ConfigError
from instaseg.geometry import Box, Coordinate, Symmetry
from instaseg.io.quantise import dequantise
from instaseg.io.stored_heads import StoredHeads
from instaseg.methods.base import Decode, Device, Head, Result
from instaseg.methods.deep_watershed.config import DeepWatershedSettings, LabelSettings
from instaseg.methods.deep_watershed.decoding import Evidence, find_instances, read_depth
from instaseg.methods.deep_watershed.quality import QUALITY, quality
from instaseg.methods.deep_watershed.targets import (
    BACKGROUND,
    DIRECTION_REACH,
    make_targets,
)
from instaseg.methods.instance_classes import class_heads, with_class_loss
from instaseg.models.config import ModelSettings

if TYPE_CHECKING:
    from torch import Tensor, nn


MOST_VOXELS = 2**27
"""Voxels of a prediction that is labelled as a whole; larger ones in blocks."""


@dataclass(frozen=True)
class DirectionHead(Head):
    """A head whose channels are the components of a vector, one for each spatial axis in order."""

    def turn(self, prediction: NDArray[Any], symmetry: Symmetry) -> NDArray[Any]:
        """Return the vectors of the turned image: moved with the image, and turned themselves."""
        return symmetry.turn_vectors(prediction)


@dataclass(frozen=True)
class StoredEvidence:
    """Predicted depth and foreground on disk.

    Parameters
    ----------
    heads : StoredHeads
        What is read.
    settings : DeepWatershedSettings
        Table ``[method]``.
    """

    heads: StoredHeads
    settings: DeepWatershedSettings

    @property
    def shape(self) -> Coordinate:
        """The volume ``([z,] y, x)`` in voxels."""
        return self.heads.shape

    def read(self, box: Box) -> Evidence:
        """Return depth and foreground in a box inside the volume."""
        return _evidence(self.heads.read(box), self.settings)


class DeepWatershedMethod:
    """Predicts how deep inside their instance voxels lie; a cut at one depth separates instances.

    Parameters
    ----------
    settings : DeepWatershedSettings
        Table ``[method]``.
    model : ModelSettings
        The U-Net, and the width of the other networks.
    data : DataSettings
        Dimensions, channels and voxel size of the images.

    Raises
    ------
    ConfigError
        If the U-Net does not fit the networks of `network = "stages"`.
    """

    result: Result = "instances"
    class_map = None
    labels_beyond: Beyond = "unknown"
    overlapping = False
    labels_may_overlap = True  # the smaller instance is on top
    coding = None

    def __init__(
        self, settings: DeepWatershedSettings, *, model: ModelSettings, data: DataSettings
    ) -> None:
        self.settings = settings
        self._model = model
        self._data = data
        self._spacing = data.voxel_size or (1.0,) * data.ndim
        wall = (settings.wall_width or 1) // 2
        reach = math.ceil(_farthest(settings)) + wall + DIRECTION_REACH
        self.context = tuple(
            max(wall + 1, math.ceil(reach * min(self._spacing) / side)) for side in self._spacing
        )
        self.margin = (0,) * data.ndim
        if settings.network == "stages" and model.padding != "same":
            raise ConfigError(
                '[model] padding: expected "same" where method.network = "stages": the Direction'
                f' Net keeps the size of the image; found "{model.padding}"'
            )
        self.instance_classes = settings.instance_classes.count
        self._own: tuple[Head, ...] = (
            _foreground_head(settings),
            DirectionHead("directions", data.ndim, "none", "volumes/pred_directions"),
            _depth_head(settings),
        )
        self.heads = (*self._own, *class_heads(settings.instance_classes))

    @property
    def labelled_heads(self) -> tuple[Head, ...]:
        """Foreground, directions and depth."""
        return self._own

    def build_network(self) -> nn.Module:
        """Return the shared U-Net, or the three networks of `network = "stages"`."""
        from instaseg.methods.deep_watershed import networks
        from instaseg.models.network import build_network

        foreground, _, depth = self._own
        channels, ndim = self._data.num_channels, self._data.ndim
        if self.settings.network == "shared":
            shared = build_network(self._model, in_channels=channels, ndim=ndim, heads=self.heads)
            return networks.UnitDirections(shared)
        fmaps = self._model.num_fmaps
        return networks.StagedNetwork(
            build_network(self._model, in_channels=channels, ndim=ndim, heads=[foreground]),
            networks.DirectionNet(channels + 1, ndim=ndim, fmaps=fmaps),
            networks.WatershedNet(depth.channels, ndim=ndim, fmaps=fmaps),
            gate=self.settings.gate,
            corruption=self.settings.mask_corruption,
            noise=self.settings.direction_noise,
        )

    def targets(self, labels: NDArray[Any], spacing: Sequence[float]) -> dict[str, NDArray[Any]]:
        """Return classes, directions, levels and areas of one crop, each with leading channels.

        Parameters
        ----------
        labels : ndarray of int, (L, [z,] y, x)
            Layers with context.
        spacing : sequence of float
            Physical size of a voxel.

        Returns
        -------
        dict of ndarray
            ``classes`` and ``levels`` uint8, ``areas`` float32, all ``(1, [z,] y, x)``, and
            ``directions`` float32 ``(ndim, [z,] y, x)``. Areas are those in the crop with its
            context; all are 0 where the crop leaves the image.
        """
        from instaseg.data.crops import targets_inside

        return targets_inside(labels, self.context, partial(self._targets, spacing=spacing))

    def _targets(
        self, labels: NDArray[Any], inner: tuple[slice, ...], *, spacing: Sequence[float]
    ) -> dict[str, NDArray[Any]]:
        """Return the targets of all labels."""
        del inner
        settings = self.settings
        made = make_targets(
            labels,
            spacing,
            edges=settings.edges,
            wall_width=settings.wall_width,
            background_reach=settings.background_reach if settings.background == "label" else None,
        )
        return {
            "classes": made.classes[None],
            "directions": made.directions,
            "levels": made.levels[None],
            "areas": made.areas[None],
        }

    def sites(self, batch: Mapping[str, Tensor], seed: int) -> None:
        """Return None: all heads are small, and evaluated everywhere."""
        del batch, seed

    def loss(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of the losses of the heads that `outputs` has, and each.

        Background where labels are incomplete does not count.
        """
        settings = self.settings
        weights = {
            "foreground": settings.foreground_weight,
            "directions": settings.direction_weight,
            "depth": settings.depth_weight,
        }
        parts = {
            name: self._head_loss(name, outputs[name], batch) for name in weights if name in outputs
        }
        # from the first term on: the sum of none has no gradient
        first, *others = (weights[name] * part for name, part in parts.items())
        loss = sum(others, start=first), parts
        return with_class_loss(loss, outputs, batch, settings.instance_classes)

    def _head_loss(self, name: str, output: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of one head."""
        from instaseg.methods.deep_watershed import loss
        from instaseg.methods.known import inside_image

        settings = self.settings
        classes, levels, areas = (batch[key][:, 0] for key in ("classes", "levels", "areas"))
        known = (batch["mask"].bool() | (classes > 0)) & inside_image(batch["labels"], self.context)
        weight = known.float()
        published = settings.losses == "published"
        if name == "foreground":
            function = loss.published_foreground_loss if published else loss.foreground_loss
            return function(output, classes, weight)
        if name == "directions":
            target = batch["directions"]
            if published:
                return loss.published_direction_loss(output, target, areas, weight)
            return loss.direction_loss(output, target, weight)
        if published:
            return loss.published_depth_loss(output, levels, areas, weight)
        weight = weight * loss.rim_weight(levels, classes, settings.rim_weight)
        if settings.depth == "classes":
            return loss.class_depth_loss(output, levels, weight)
        return loss.depth_loss(output, levels, weight)

    def evidence(self, prediction: Mapping[str, NDArray[Any]]) -> Evidence:
        """Return what stored predictions mean.

        Parameters
        ----------
        prediction : mapping of str to ndarray
            Heads ``(channels, [z,] y, x)``, or parts of them, as they are stored.
        """
        return _evidence(prediction, self.settings)

    def label(
        self,
        prediction: Mapping[str, NDArray[Any]],
        parameters: Sequence[LabelSettings],
        *,
        decode: Decode | None = None,
        device: Device = "cpu",
    ) -> Iterator[NDArray[np.int32]]:
        """Yield instances ``([z,] y, x)`` for each set of parameters; depths are read once."""
        del decode, device
        evidence = self.evidence(prediction)
        for settings in parameters:
            yield find_instances(evidence, settings, self._spacing)[0]

    def block_shape(self, shape: Sequence[int]) -> Coordinate | None:
        """Return a block of a prediction of `shape` that fits in memory; None if all of it does."""
        if math.prod(shape) <= MOST_VOXELS:
            return None
        return automatic_block_shape(shape, most=MOST_VOXELS // 4, least=(1,) * len(shape))

    def check_blocks(self, parameters: LabelSettings) -> None:
        """Check that a stored prediction can be labelled block by block with these parameters.

        Raises
        ------
        ConfigError
            If they need whole instances.
        """
        from instaseg.methods.deep_watershed.blocks import check_parameters

        check_parameters(parameters)

    def label_blocks(
        self,
        path: Path,
        parameters: LabelSettings,
        work: BlockWork,
        *,
        decode: Decode | None = None,
    ) -> BlockLabels:
        """Label a stored prediction block by block; the partition is the one :meth:`label` gives.

        Raises
        ------
        ConfigError
            For settings that need whole instances.
        """
        del decode
        from instaseg.methods.deep_watershed.blocks import label_blocks

        keys = {head.name: head.key for head in self._own if head.name != "directions"}
        source = StoredEvidence(StoredHeads(path, keys), self.settings)
        return label_blocks(source, parameters, work, self._spacing)

    @cached_property
    def quality_names(self) -> tuple[str, ...]:
        """Dotted names of the scores :meth:`prediction_quality` gives."""
        return QUALITY

    def prediction_quality(
        self,
        prediction: Mapping[str, NDArray[Any]],
        truth: NDArray[Any],
        mask: NDArray[Any] | None,
        *,
        decode: Decode | None = None,
    ) -> dict[str, float]:
        """Return how well foreground, directions and depth agree with the truth."""
        del decode
        made = make_targets(
            _layers(truth, self._data.ndim),
            self._spacing,
            edges=self.settings.edges,
            wall_width=self.settings.wall_width,
        )
        return quality(self.evidence(prediction), made, self.settings.edges, mask)


def _farthest(settings: DeepWatershedSettings) -> float:
    """Return the largest depth that is told from larger ones, in sides of a voxel."""
    background = settings.background_reach if settings.background == "label" else 0.0
    return max(settings.edges[-1], background)


def _layers(truth: NDArray[Any], ndim: int) -> NDArray[Any]:
    """Return labels ``(L, [z,] y, x)`` whose ids differ, of labels or of instance channels."""
    if truth.ndim == ndim:
        return truth[np.newaxis]
    ids = np.arange(1, len(truth) + 1, dtype=np.int32).reshape(-1, *(1,) * ndim)
    return np.where(truth != 0, ids, 0)


def _evidence(prediction: Mapping[str, NDArray[Any]], settings: DeepWatershedSettings) -> Evidence:
    """Return what stored heads, or parts of them, mean."""
    foreground = dequantise(prediction["foreground"])
    return Evidence(
        depth=read_depth(dequantise(prediction["depth"]), settings.edges, settings.depth),
        foreground=foreground[0] if len(foreground) == 1 else 1 - foreground[BACKGROUND],
        directions=prediction.get("directions"),
    )


def _foreground_head(settings: DeepWatershedSettings) -> Head:
    if settings.wall_width is not None:
        return Head("foreground", 3, "softmax", "volumes/pred_fgbg")
    return Head("foreground", 1, "sigmoid", "volumes/pred_fgbg")


def _depth_head(settings: DeepWatershedSettings) -> Head:
    edges = len(settings.edges)
    if settings.depth == "classes":
        return Head("depth", edges + 1, "softmax", "volumes/pred_depth")
    return Head("depth", edges, "sigmoid", "volumes/pred_depth")

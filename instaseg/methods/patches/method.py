"""PatchPerPix as a method: heads, targets, loss, labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.grid import BlockGrid, automatic_block_shape
from instaseg.blockwise.work import BlockLabels, BlockWork
from instaseg.data.config import Beyond, DataSettings
from instaseg.errors import ConfigError
from instaseg.geometry import Coordinate, Symmetry, identity
from instaseg.io.stored_heads import StoredHeads
from instaseg.methods.base import Decode, Device, Head, Result
from instaseg.methods.instance_classes import class_heads, with_class_loss
from instaseg.methods.patches.assembly import sweep
from instaseg.methods.patches.block_steps import PatchJob
from instaseg.methods.patches.codes import PatchCoding
from instaseg.methods.patches.config import LabelSettings, PatchesSettings
from instaseg.methods.patches.offsets import window
from instaseg.methods.patches.quality import quality, quality_names
from instaseg.methods.patches.stored import (
    StoredPatches,
    foreground_probability,
    overlap_probability,
)
from instaseg.models.config import CodeSettings, ModelSettings

if TYPE_CHECKING:
    from torch import Tensor, nn


MOST_BYTES = 5 * 2**30
"""Patches and consensus of a prediction that is labelled as a whole, if all of it is foreground;
larger ones are labelled in blocks of at most half as much."""


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


@dataclass(frozen=True)
class CodeHead(Head):
    """A head whose channels are a code: only its decoder knows what they mean."""

    def turn(self, prediction: NDArray[Any], symmetry: Symmetry) -> NDArray[Any]:
        """Return the prediction unturned; refuse any other symmetry."""
        if symmetry != identity(len(symmetry.permutation)):
            raise ConfigError(
                "[prediction] symmetries: expected 'none' where method.prediction = 'codes': the"
                " code of a turned image is not the turned code; remove the key"
            )
        return prediction


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

    result: Result = "instances"
    labels_beyond: Beyond = "mirrored"
    class_map = None

    def __init__(
        self, settings: PatchesSettings, *, model: ModelSettings, data: DataSettings
    ) -> None:
        self.settings = settings
        self._model = model
        self._data = data
        # two sides lie in the plane of a volume
        flat = (1,) * (data.ndim - len(settings.patch_shape))
        self.patch_shape = flat + settings.patch_shape
        self.context = tuple(side // 2 for side in self.patch_shape)
        self.margin = self.context if settings.border == "mirror" else (0,) * len(self.context)
        patch = PatchHead(
            name="affs",
            channels=int(np.prod(self.patch_shape)),
            activation="sigmoid",
            key="volumes/pred_affs",
            patch_shape=self.patch_shape,
        )
        with_codes = settings.prediction == "codes"
        self.coding: PatchCoding | None = (
            PatchCoding(
                settings.code,
                self.patch_shape,
                decoded=patch,
                decodes_in=_decodes_in(settings.code, data.ndim),
            )
            if with_codes
            else None
        )
        self.overlapping = settings.foreground == "count"
        """Whether instances may overlap: the network then counts them."""
        self.labels_may_overlap = self.overlapping
        code = CodeHead("code", settings.code.code_units, "sigmoid", "volumes/pred_code")
        self._own = (code if with_codes else patch, *_foreground_heads(settings))
        self.instance_classes = settings.instance_classes.count
        self.heads: tuple[Head, ...] = (*self._own, *class_heads(settings.instance_classes))

    def build_network(self) -> nn.Module:
        """Return a U-Net with one 1x1 convolution per head, and the decoder of codes, if any."""
        from instaseg.models.network import build_network

        return build_network(
            self._model,
            in_channels=self._data.num_channels,
            ndim=self._data.ndim,
            heads=self.heads,
            decoder=None if self.coding is None else self.coding.decoder(),
        )

    def targets(self, labels: NDArray[Any], spacing: Sequence[float]) -> dict[str, NDArray[Any]]:
        """Return nothing: patches are too large for a worker queue and are cut in the loss."""
        del labels, spacing
        return {}

    def sites(self, batch: Mapping[str, Tensor], seed: int) -> Tensor:
        """Return the voxels of a training batch whose patches are compared with the truth.

        Those with exactly one instance, since assembly uses no others; of codes at most
        `patches_per_crop` for each crop. Where the patch's centre is the foreground, all voxels
        that are known.
        """
        from instaseg.methods.known import instance_count, known_weight
        from instaseg.methods.patches.loss import draw_sites

        count = instance_count(batch["labels"], self.context)
        if self.settings.foreground == "centre":
            chosen = known_weight(count, batch["mask"], self.settings.mask_bg_weight) > 0
        else:
            chosen = count == 1
        most = self.settings.code.patches_per_crop if self.coding else None
        return draw_sites(chosen, most, seed)

    def loss(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of patch and foreground loss, and both.

        Patches count at the batch's ``sites`` (see :meth:`sites`). Background where labels are
        incomplete counts as much as `mask_bg_weight` says.

        Raises
        ------
        ConfigError
            If codes are predicted by a network that does not decode them.
        """
        from instaseg.methods.known import instance_count, known_weight
        from instaseg.methods.patches.loss import count_loss, foreground_loss, patch_loss

        count = instance_count(batch["labels"], self.context)
        weight = known_weight(count, batch["mask"], self.settings.mask_bg_weight)
        sites = batch["sites"]
        everywhere = self.settings.foreground == "centre"
        parts = {
            "patch": patch_loss(
                self._patches_at(outputs, sites),
                batch["labels"],
                patch_shape=self.patch_shape,
                sites=sites,
                weight=weight if everywhere else None,
            )
        }
        total = self.settings.patch_weight * parts["patch"]
        if self.settings.foreground == "head":
            parts["foreground"] = foreground_loss(outputs["fgbg"], count > 0, weight)
            total = total + self.settings.fg_weight * parts["foreground"]
        elif self.settings.foreground == "count":
            parts["count"] = count_loss(outputs["numinst"], count, weight)
            total = total + self.settings.fg_weight * parts["count"]
        return with_class_loss((total, parts), outputs, batch, self.settings.instance_classes)

    def _patches_at(self, outputs: Mapping[str, Tensor], sites: Tensor) -> Tensor:
        """Return the logits ``(N, K)`` of patches at some voxels."""
        from instaseg.methods.patches.loss import rows_at

        if "patches" in outputs:
            return outputs["patches"]
        if self.coding is not None:
            raise ConfigError(
                "torch_model.py: expected a network whose forward(image, sites) decodes the codes"
                f" at `sites` and gives them as 'patches', found {', '.join(outputs)}; build it"
                " with instaseg.models.network.HeadedNetwork and a decoder"
            )
        return rows_at(outputs["affs"], sites)

    @property
    def labelled_heads(self) -> tuple[Head, ...]:
        """The heads that ``label`` reads: patches in place of codes where a stage decodes them."""
        if self.coding is not None and self.coding.decodes_in == "stage":
            return (self.coding.decoded, *self._own[1:])
        return self._own

    def label(
        self,
        prediction: Mapping[str, NDArray[Any]],
        parameters: Sequence[LabelSettings],
        *,
        decode: Decode | None = None,
        device: Device = "cpu",
    ) -> Iterator[NDArray[Any]]:
        """Yield instances for each set of parameters; the margin is cut off."""
        if "affs" in prediction:
            affinities = prediction["affs"]
        else:
            assert self.coding is not None  # else the prediction has no codes
            affinities = self.coding.decode(prediction, parameters, _needed(decode))
        inner = tuple(
            slice(m, n - m) for m, n in zip(self.margin, affinities.shape[1:], strict=True)
        )
        for instances in sweep(
            affinities,
            foreground_probability(prediction),
            patch_shape=self.patch_shape,
            settings=parameters,
            overlap=overlap_probability(prediction),
            device=device,
        ):
            yield instances[(slice(None),) * (instances.ndim - len(inner)) + inner]

    def block_shape(self, shape: Sequence[int]) -> Coordinate | None:
        """Return a block of a prediction of `shape` that fits in memory; None if all of it does."""
        # patches in half precision, and the rows of the consensus, of every voxel at worst
        each = 2 * (math.prod(self.patch_shape) + window(self.patch_shape).length)
        if each * math.prod(shape) <= MOST_BYTES:
            return None
        halo = [6 * (side // 2) for side in self.patch_shape]
        least = [max(4, reach // 2) for reach in halo]
        return automatic_block_shape(shape, most=MOST_BYTES // 2 // each, least=least, halo=halo)

    def label_blocks(
        self,
        path: Path,
        parameters: LabelSettings,
        work: BlockWork,
        *,
        decode: Decode | None = None,
    ) -> BlockLabels:
        """Label a stored prediction block by block; the partition is the one :meth:`label` gives.

        Parameters
        ----------
        path : Path
            Zarr folder of the prediction.
        parameters : LabelSettings
            Table ``[vote_instances]``.
        work : BlockWork
            Shape of the blocks, where their results are kept, and what runs them.
        decode : callable, optional
            Codes as stored to probabilities; must be picklable.
        """
        from instaseg.methods.patches.blocks import label_blocks

        ndim = len(self.patch_shape)
        source = StoredPatches(
            heads=StoredHeads(path, {head.name: head.key for head in self.labelled_heads}),
            ndim=ndim,
            patch_size=math.prod(self.patch_shape),
            decode=decode,
        )
        flat = (1,) * (3 - ndim)
        margin = tuple(0 * one for one in flat) + self.margin
        job = PatchJob(
            source=source,
            settings=parameters,
            window=window(self.patch_shape),
            blocks=BlockGrid(source.shape, flat + tuple(work.block_shape), margin),
            ndim=ndim,
            store=work.store,
            device=work.device,
        )
        return label_blocks(job, work.run)

    @property
    def quality_names(self) -> tuple[str, ...]:
        """Dotted names of the scores :meth:`prediction_quality` gives."""
        return quality_names(self.settings.max_num_inst if self.overlapping else None)

    def prediction_quality(
        self,
        prediction: Mapping[str, NDArray[Any]],
        truth: NDArray[Any],
        mask: NDArray[Any] | None,
        *,
        decode: Decode | None = None,
    ) -> dict[str, float]:
        """Return how well patches, counts and foreground agree with the truth; without margin."""
        inner = {
            name: head[
                (
                    slice(None),
                    *(slice(m, n - m) for m, n in zip(self.margin, head.shape[1:], strict=True)),
                )
            ]
            for name, head in prediction.items()
        }
        return quality(inner, truth, mask, patch_shape=self.patch_shape, decode=decode)


def _needed(decode: Decode | None) -> Decode:
    """Return the decoder, which a prediction with codes cannot do without."""
    if decode is None:
        raise ValueError("a prediction with codes needs `decode`")
    return decode


def _decodes_in(settings: CodeSettings, ndim: int) -> Literal["stage", "label"]:
    """Return where codes become patches.

    Volumes are decoded block by block in ``label``, unless the settings say otherwise: all patches
    of one would not fit on most disks.
    """
    if settings.decode == "auto":
        return "stage" if ndim == 2 else "label"
    return settings.decode


def _foreground_heads(settings: PatchesSettings) -> tuple[Head, ...]:
    """Return the head that says where instances are, if there is one."""
    match settings.foreground:
        case "head":
            return (Head("fgbg", 1, "sigmoid", "volumes/pred_fgbg"),)
        case "count":
            channels = settings.max_num_inst + 1
            return (Head("numinst", channels, "softmax", "volumes/pred_numinst"),)
        case "centre":
            return ()

"""Synapses as a method: heads, targets, loss, points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.grid import BlockGrid, automatic_block_shape
from instaseg.blockwise.memory import MemoryStore, run_here
from instaseg.blockwise.work import BlockLabels, BlockWork
from instaseg.data.config import Beyond, DataSettings
from instaseg.errors import ConfigError
from instaseg.geometry import Coordinate, Symmetry, whole
from instaseg.io.points import KINDS, Points, positions, rows_of
from instaseg.io.stored_heads import StoredHeads
from instaseg.methods.base import Decode, Device, Head, Result
from instaseg.methods.synapses import targets
from instaseg.methods.synapses.blocks import (
    VECTORS,
    PointJob,
    PointSource,
    PointTable,
    find_clefts,
    find_points,
)
from instaseg.methods.synapses.config import SITES, PointSettings, SynapsesSettings
from instaseg.methods.synapses.decode import decoding
from instaseg.methods.synapses.stored import HeldPoints, StoredPoints
from instaseg.models.config import ModelSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from instaseg.blockwise.work import Run, Store

MOST_VOXELS = 2**27
"""Voxels of a prediction that is decoded as a whole; larger ones in blocks."""


@dataclass(frozen=True)
class VectorHead(Head):
    """A head whose channels are a vector from the voxel, one for each axis.

    Its length is physical, in multiples of `method.partner_distance`.
    """

    def turn(self, prediction: NDArray[Any], symmetry: Symmetry) -> NDArray[Any]:
        """Return the prediction of the turned image: vectors turn with it."""
        return symmetry.turn_vectors(prediction)


class SynapsesMethod:
    """Predicts where sites of synapses are, and which belong together.

    Parameters
    ----------
    settings : SynapsesSettings
        Table ``[method]``.
    model : ModelSettings
        Trunk of the network.
    data : DataSettings
        Dimensions, channels and voxel size of the images.

    Raises
    ------
    ConfigError
        If the voxel size is not configured.
    """

    result: Result = "points"
    class_map = None
    coding = None
    labels_beyond: Beyond = "mirrored"
    overlapping = False
    labels_may_overlap = False
    instance_classes = 0

    def __init__(
        self, settings: SynapsesSettings, *, model: ModelSettings, data: DataSettings
    ) -> None:
        if data.voxel_size is None:
            raise ConfigError(
                "[data] voxel_size: expected the physical size of a voxel per axis, because"
                " method.name = 'synapses' measures distances, found nothing; set it"
            )
        self.settings = settings
        self._model = model
        self._data = data
        self.spacing = data.voxel_size
        self.predicted = SITES[settings.kind]
        """Sites whose probability is predicted."""
        heads = [Head(site, 1, "sigmoid", f"volumes/pred_{site}") for site in self.predicted]
        if settings.vectors:
            heads.append(VectorHead(VECTORS, data.ndim, "none", f"volumes/pred_{VECTORS}"))
        self.heads: tuple[Head, ...] = tuple(heads)
        self.context = self._context()
        self.margin = (0,) * data.ndim

    def _context(self) -> Coordinate:
        """Return how far sites outside a crop change its targets."""
        settings = self.settings
        if settings.masks:
            return (0,) * len(self.spacing)
        distance = settings.blob_radius
        if settings.vectors:
            assert settings.partner_distance is not None
            distance = max(distance, settings.vector_reach + settings.partner_distance)
        return targets.reach(distance, self.spacing)

    def build_network(self) -> nn.Module:
        """Return a U-Net with one 1x1 convolution per head."""
        from instaseg.models.network import build_network

        return build_network(
            self._model,
            in_channels=self._data.num_channels,
            ndim=self._data.ndim,
            heads=self.heads,
            decoder=None,
        )

    def targets(self, labels: NDArray[Any], spacing: Sequence[float]) -> dict[str, NDArray[Any]]:
        """Return ``blobs`` with a channel for each site, and where vectors are learnt these.

        They are ``vectors`` (axes, ...) and ``known`` (1, ...), where they count. Vectors are
        divided by `partner_distance`; longer ones are not known.
        """
        settings = self.settings
        if settings.masks:
            return {"blobs": (labels != 0).any(axis=0, keepdims=True).astype(np.float32)}
        blobs = targets.point_targets(
            labels, self.predicted, settings.blob_radius, context=self.context, spacing=spacing
        )
        if not settings.vectors:
            return {"blobs": blobs}
        assert settings.partner_distance is not None
        post, pre = targets.partners_of(labels)
        steps = (pre - post) * np.asarray(spacing)
        far = ~(np.linalg.norm(steps, axis=1) <= settings.partner_distance)
        found = targets.vectors(
            post - np.array(self.context),
            np.where(far[:, np.newaxis], np.nan, pre - np.array(self.context)),
            settings.vector_reach,
            shape=blobs.shape[1:],
            spacing=spacing,
        )
        vectors = found.vectors / np.float32(settings.partner_distance)
        return {"blobs": blobs, VECTORS: vectors, "known": found.known}

    def sites(self, batch: Mapping[str, Tensor], seed: int) -> None:
        """Return None: all voxels are compared."""
        del batch, seed

    def loss(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of blobs, with vectors the weighted sum of both, and its parts."""
        import torch

        from instaseg.methods.synapses.loss import blob_loss, vector_loss

        logits = torch.cat([outputs[site] for site in self.predicted], dim=1)
        share = self.settings.positive_share
        parts = {"blobs": blob_loss(logits, batch["blobs"], batch["mask"], share)}
        total = parts["blobs"]
        if self.settings.vectors:
            known = batch["known"] & batch["mask"][:, None]
            parts[VECTORS] = vector_loss(outputs[VECTORS], batch[VECTORS], known)
            total = total + self.settings.vector_weight * parts[VECTORS]
        return total, parts

    @property
    def labelled_heads(self) -> tuple[Head, ...]:
        """All heads."""
        return self.heads

    def label(
        self,
        prediction: Mapping[str, NDArray[Any]],
        parameters: Sequence[PointSettings],
        *,
        decode: Decode | None = None,
        device: Device = "cpu",
    ) -> Iterator[Points]:
        """Yield a table of points for each set of parameters; see :mod:`instaseg.io.points`."""
        del decode, device
        source = HeldPoints(prediction)
        blocks = BlockGrid(source.shape, source.shape)
        for settings in parameters:
            yield self._points(source, settings, blocks, MemoryStore(), run_here)

    def _points(
        self,
        source: PointSource,
        settings: PointSettings,
        blocks: BlockGrid,
        store: Store,
        run: Run,
    ) -> Points:
        """Return the points of a prediction."""
        how = decoding(self.settings, settings, sites=self.predicted, spacing=self.spacing)
        job = PointJob(source, how, blocks, store)
        if self.settings.masks:
            return find_clefts(job, run, settings.min_voxels)
        return find_points(job, run)

    def block_shape(self, shape: Sequence[int]) -> Coordinate | None:
        """Return a block of a prediction of `shape` that fits in memory; None if all of it does."""
        if int(np.prod(shape)) <= MOST_VOXELS:
            return None
        return automatic_block_shape(shape, most=MOST_VOXELS // 4, least=(16,) * len(shape))

    def label_blocks(
        self,
        path: Path,
        parameters: PointSettings,
        work: BlockWork,
        *,
        decode: Decode | None = None,
    ) -> BlockLabels:
        """Find the points of a stored prediction block by block, the same as :meth:`label` does."""
        del decode
        source = StoredPoints(StoredHeads(path, {head.name: head.key for head in self.heads}))
        blocks = BlockGrid(source.shape, tuple(work.block_shape))
        return PointTable(self._points(source, parameters, blocks, work.store, work.run))

    @property
    def quality_names(self) -> tuple[str, ...]:
        """Dotted names of the scores :meth:`prediction_quality` gives."""
        return tuple(f"{site}.contrast" for site in self.predicted)

    def prediction_quality(
        self,
        prediction: Mapping[str, NDArray[Any]],
        truth: NDArray[Any],
        mask: NDArray[Any] | None,
        *,
        decode: Decode | None = None,
    ) -> dict[str, float]:
        """Return by how much the mean probability at true sites exceeds that of the volume.

        `truth` is a table of points; sites outside of `mask` count too.
        """
        del mask, decode
        source = HeldPoints(prediction)
        found = {}
        for site in self.predicted:
            rows = rows_of(truth, KINDS.index(site))
            if len(rows):
                values = source.probability(site, whole(source.shape))
                last = np.array(source.shape) - 1
                voxels = np.clip(np.rint(positions(truth)[rows]).astype(np.int64), 0, last)
                found[f"{site}.contrast"] = float(values[tuple(voxels.T)].mean() - values.mean())
        return found

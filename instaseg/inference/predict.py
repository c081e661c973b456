"""A network applied to a whole image, tile by tile: memory is bounded by the tile."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from instaseg.errors import DataError
from instaseg.geometry import Box, Coordinate, Symmetry, grid_box, grid_size
from instaseg.inference import tiling
from instaseg.inference.augmentation import symmetries
from instaseg.inference.config import PredictionSettings
from instaseg.io.arrays import ArraySource
from instaseg.io.quantise import quantise, stored_dtype
from instaseg.methods.base import Head
from instaseg.models import shapes
from instaseg.models.network import activate
from instaseg.training.devices import choose_precision

if TYPE_CHECKING:
    from instaseg.models.config import ModelSettings


class Writer(Protocol):
    """An output array ``(channels, [z,] y, x)``, in memory or on disk."""

    def __setitem__(self, index: tuple[slice, ...], values: NDArray[Any]) -> None:
        """Write the part named by one slice per axis."""


@dataclass(frozen=True)
class Predictor:
    """A trained network and how it is applied.

    Parameters
    ----------
    network : Module
        ``(B, C, [z,] y, x)`` in, a dict of logits by head name out; on `device`.
    heads : sequence of Head
        Its outputs.
    model : ModelSettings
        Table ``[model]``: shape arithmetic, and the largest tile.
    settings : PredictionSettings
        Table ``[prediction]``.
    device : torch.device
        Where the network is.
    """

    network: nn.Module
    heads: Sequence[Head]
    model: ModelSettings
    settings: PredictionSettings
    device: torch.device

    @property
    def turns(self) -> list[Symmetry]:
        """The turned positions whose predictions are averaged."""
        return symmetries(self.settings.symmetries, self.model.ndim)

    def dtype(self, head: Head) -> np.dtype[Any]:
        """Return the type of a head's array on disk."""
        return stored_dtype(head.activation, self.settings.output_dtype)

    def tile_shape(self, shape: Sequence[int], margin: Sequence[int]) -> Coordinate:
        """Return the shape of the parts that are written, for an image of `shape`, in voxels.

        Arrays on disk are best cut into chunks of this shape, or of one that divides it.
        """
        grown = tiling.output_box(shape, margin).shape
        return tiling.tile_shape(self.model, grown, self.turns)


def prediction_shape(head: Head, shape: Sequence[int], margin: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a head's output for an image of `shape` with a margin on each side."""
    return (head.channels, *tiling.output_box(shape, margin).shape)


def predict_sample(
    predictor: Predictor,
    raw: ArraySource,
    *,
    normalize: tiling.Normalize,
    writers: Mapping[str, Writer],
    margin: Sequence[int],
) -> None:
    """Predict an image and the mirrored margin around it.

    Parameters
    ----------
    predictor : Predictor
        Network and settings.
    raw : ArraySource
        ``(C, [z,] y, x)``; read tile by tile.
    normalize : callable
        From a raw block ``(C, [z,] y, x)`` to float32; voxel by voxel, or results would depend on
        the tiles.
    writers : mapping of str to Writer
        An array ``(channels, *(shape + 2 * margin))`` of each head, by name; voxel ``margin`` is
        the image's first one. Each part is written once, with the type of
        :meth:`Predictor.dtype`.
    margin : sequence of int
        Voxels beyond the image on each side that are predicted.

    Raises
    ------
    DataError
        If the image's number of axes does not fit the network.
    """
    for number in range(count_batches(predictor, _space(predictor, raw), margin)):
        predict_tiles(predictor, raw, number, normalize=normalize, writers=writers, margin=margin)


def _space(predictor: Predictor, raw: ArraySource) -> Coordinate:
    """Return the spatial shape of an image whose number of axes is the network's."""
    if len(raw.shape) != predictor.model.ndim + 1:
        raise DataError(
            f"raw: expected (channels, {predictor.model.ndim} spatial axes) as in"
            f" model.train_input_shape; found shape {list(raw.shape)}"
        )
    return tuple(raw.shape[1:])


def count_batches(predictor: Predictor, shape: Sequence[int], margin: Sequence[int]) -> int:
    """Return in how many batches of tiles an image of `shape` is predicted."""
    tile = predictor.tile_shape(shape, margin)
    tiles = grid_size(tiling.output_box(shape, margin), tile)
    return math.ceil(tiles / predictor.settings.batch_size)


def predict_tiles(
    predictor: Predictor,
    raw: ArraySource,
    batch: int,
    *,
    normalize: tiling.Normalize,
    writers: Mapping[str, Writer],
    margin: Sequence[int],
) -> None:
    """Predict the tiles of one batch, numbered in raster order; see :func:`predict_sample`.

    Raises
    ------
    DataError
        If the image's number of axes does not fit the network.
    """
    shape = _space(predictor, raw)
    tile, whole = predictor.tile_shape(shape, margin), tiling.output_box(shape, margin)
    size, count = predictor.settings.batch_size, grid_size(whole, tile)
    numbers = range(batch * size, min((batch + 1) * size, count))
    boxes = [grid_box(whole, tile, number) for number in numbers]
    blocks = _predict_batch(predictor, raw, boxes, tile=tile, normalize=normalize)
    for box, block in zip(boxes, blocks, strict=True):
        place = (slice(None), *box.shift(margin).slices)
        for head in predictor.heads:
            writers[head.name][place] = quantise(block[head.name], predictor.dtype(head))


def _predict_batch(
    predictor: Predictor,
    raw: ArraySource,
    boxes: Sequence[Box],
    *,
    tile: Coordinate,
    normalize: tiling.Normalize,
) -> list[dict[str, NDArray[np.float32]]]:
    """Return, for each write box, the heads combined over the turned positions."""
    read: dict[Box, NDArray[np.float32]] = {}
    found: list[dict[str, NDArray[np.float32]]] = [{} for _ in boxes]
    turns = predictor.turns
    for symmetry in turns:
        frame = tiling.frame(predictor.model, tile, symmetry)
        turned = []
        for box in boxes:
            source = frame.read_box(box)
            if source not in read:
                read[source] = tiling.read_mirrored(raw, source, normalize)
            turned.append(symmetry.apply(read[source]))
        outputs = _run_network(predictor, np.stack(turned))
        for number, box in enumerate(boxes):
            written = (slice(None), *(slice(0, n) for n in box.shape))
            for head in predictor.heads:
                prediction = outputs[head.name][number]
                back: NDArray[np.float32] = head.turn(prediction, symmetry.inverse())[written]
                mode = "mean" if head.is_vector else predictor.settings.symmetries_mode
                if mode == "mean":
                    back = back * np.float32(1 / len(turns))
                known = found[number].get(head.name)
                found[number][head.name] = back if known is None else _COMBINE[mode](known, back)
    return found


_COMBINE = {"mean": np.add, "min": np.minimum, "max": np.maximum}


def _run_network(
    predictor: Predictor, images: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Return the heads ``(B, channels, [z,] y, x)`` inside the halo of images ``(B, C, ...)``."""
    precision = choose_precision(predictor.settings.precision, predictor.device)
    image = torch.from_numpy(np.ascontiguousarray(images)).to(predictor.device)
    predictor.network.eval()
    inner = [
        slice(h, n - h) for h, n in zip(shapes.halo(predictor.model), images.shape[2:], strict=True)
    ]
    outputs = {}
    with torch.inference_mode(), precision.autocast(predictor.device):
        logits = predictor.network(precision.arrange(image))
    for head in predictor.heads:
        values = logits.pop(head.name)
        if predictor.model.padding == "same":
            values = values[(..., *inner)]
        outputs[head.name] = activate(head, values).cpu().numpy()
    return outputs

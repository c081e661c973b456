"""Table ``[prediction]``. Loads no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from instaseg.settings import Table

REMOVED_KEYS: dict[str, str] = {
    "prediction.output_format": "predictions are written as zarr; remove it",
    "prediction.aff_key": "patches are always written to volumes/pred_affs; remove it",
    "prediction.code_key": "codes are always written to volumes/pred_code; remove it",
    "prediction.fg_key": "foreground is always written to volumes/pred_fgbg; remove it",
    "prediction.numinst_key": "counts are always written to volumes/pred_numinst; remove it",
    "prediction.cache_size": "tiles are read as they are needed; remove it",
    "prediction.num_workers": "use general.num_workers, or the command line's --workers",
    "prediction.mask_folder": "whole images are predicted; remove it",
    "prediction.clean_mask": "use vote_instances.ignore_small_components",
    "prediction.fg_thresh": "use vote_instances.fg_threshold",
    "prediction.overlap": "tiles overlap by as much as the network sees; remove it",
    "prediction.decode_batch_size": "use method.code.batch_size",
}


class PredictionSettings(Table):
    """How the network is applied to whole images."""

    output_dtype: Literal["float16", "uint8"] = "float16"
    """Numbers on disk; uint8 keeps probabilities to 1/255 in half the space."""
    batch_size: int = Field(default=1, ge=1)
    """Tiles (of shape `model.test_input_shape`) computed together; changes memory and speed, not
    the result."""
    symmetries: Literal["none", "flips", "flips_and_rotations"] = "none"
    """Turned copies of each tile whose predictions are combined: 4 flips in 2-D (8 in 3-D), or the
    8 flips and quarter turns of the plane; takes as many times as long."""
    symmetries_mode: Literal["mean", "min", "max"] = "mean"
    """What becomes of a voxel's predictions in all turned copies: their mean, least or greatest
    value. Directions (flows, offsets) are always averaged."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Numbers of the network's layers; `auto` takes 16 bits where the device computes faster with
    them."""

"""What post-processing needs of a sample beside its instances, from its files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.errors import ConfigError, DataError
from instaseg.geometry import Box, Coordinate
from instaseg.inference.quantise import dequantise
from instaseg.io.arrays import IMAGE_SUFFIXES, Reader, open_array
from instaseg.io.resampled import ResampledReader
from instaseg.io.samples import Sample, Source
from instaseg.methods.base import Head, Method
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.postprocess.medians import filter_box
from instaseg.postprocess.properties import check_properties
from instaseg.postprocess.scene import Scene
from instaseg.stages.stored import image_shape


def open_scene(
    sample: Sample, settings: PostprocessingSettings, *, prediction: Path, method: Method
) -> Scene:
    """Return what post-processing needs of a sample; arrays are read part by part, when needed.

    Parameters
    ----------
    sample : Sample
        The image, at the size it is stored in.
    settings : PostprocessingSettings
        What is done.
    prediction : Path
        Zarr folder of the predicted heads; opened only if one of them makes a mask.
    method : Method
        Knows the heads.

    Raises
    ------
    DataError
        If an array is missing or has other axes.
    """
    roi = None if settings.roi_key is None else open_roi(sample, settings.roi_key)
    mask: Any = None
    if settings.voronoi.head is not None:
        mask = PredictedMask(prediction, settings, method)
        shape = image_shape(prediction, [head_of(settings, method.heads)])
        mask = mask if shape is None else ResampledReader(mask, shape, "nearest")
    return Scene(sample.resolution, roi, mask)


def open_roi(sample: Sample, key: str) -> Reader:
    """Open a sample's region of interest, scaled to the image by the nearest voxel.

    Raises
    ------
    DataError
        If the sample has no such array, or one of other axes.
    """
    return ResampledReader(_with_roi(sample, key), sample.open_raw().shape[1:], "nearest")


def _with_roi(sample: Sample, key: str) -> Reader:
    if sample.raw.path.suffix.lower() in IMAGE_SUFFIXES:
        raise DataError(
            f"sample {sample.name}: expected a zarr folder or an HDF5 file that holds the array"
            f" {key!r} (postprocessing.roi_key), found {sample.raw.path.name}; convert it, or"
            " remove the key"
        )
    # opened as a mask of complete labels is: ([z,] y, x), at the size it is stored in
    opened = replace(sample, mask=Source(sample.raw.path, key), size=None).open_mask()
    assert opened is not None, "a sample with a mask opens it"
    return opened


def roi_state(sample: Sample, settings: PostprocessingSettings) -> tuple[str, ...]:
    """Return what tells one region of interest from another, for fingerprints; () without one."""
    if settings.roi_key is None:
        return ()
    source = Source(sample.raw.path, settings.roi_key)
    return (replace(sample, labels=None, mask=source).identity(),)


class PredictedMask:
    """Where a channel of a stored prediction is above or below a threshold, without its margin.

    Parameters
    ----------
    prediction : Path
        Zarr folder of the predicted heads.
    settings : PostprocessingSettings
        ``[voronoi]`` names head, channel, side and threshold; `median` filters the channel before.
    method : Method
        Knows the heads, and the margin of their arrays.

    Raises
    ------
    DataError
        If the prediction is not there.
    """

    def __init__(self, prediction: Path, settings: PostprocessingSettings, method: Method) -> None:
        head = head_of(settings, method.heads)
        self._stored = open_array(prediction, head.key)
        self._settings = settings
        self._margin = method.margin
        self.shape: Coordinate = tuple(
            n - 2 * m for n, m in zip(self._stored.shape[1:], self._margin, strict=True)
        )
        self.dtype: np.dtype[Any] = np.dtype(bool)

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[np.bool_]:
        """Return the part named by one slice per axis, without steps."""
        ranges = [part.indices(n) for part, n in zip(index, self.shape, strict=True)]
        box = Box(tuple(r[0] for r in ranges), tuple(r[1] for r in ranges)).shift(self._margin)
        voronoi = self._settings.voronoi
        channel = slice(voronoi.channel, voronoi.channel + 1)
        (stored,) = filter_box(self._stored, channel, box, self._settings.medians)
        compare = np.greater if voronoi.side == "above" else np.less
        return np.asarray(compare(dequantise(stored), np.float32(voronoi.threshold)), dtype=bool)


def head_of(settings: PostprocessingSettings, heads: Sequence[Head]) -> Head:
    """Return the head that makes the mask in which instances grow.

    Raises
    ------
    ConfigError
        If the method has no such head, or the head no such channel.
    """
    voronoi, names = settings.voronoi, [head.name for head in heads]
    if voronoi.head not in names:
        raise ConfigError(
            f"[postprocessing.voronoi] head: must be a head of the method, {', '.join(names)};"
            f" got {voronoi.head}"
        )
    head = heads[names.index(voronoi.head)]
    if voronoi.channel >= head.channels:
        raise ConfigError(
            f"[postprocessing.voronoi] channel: must be below {head.channels}, the channels of the"
            f" head {head.name}; got {voronoi.channel}"
        )
    return head


def check_settings(settings: PostprocessingSettings, method: Method, ndim: int) -> None:
    """Check that post-processing suits a method and the images' axes.

    Raises
    ------
    ConfigError
        If something does not; lists all of it.
    """
    problems = list(_problems(settings, method, ndim))
    if problems:
        raise ConfigError("\n".join(problems))


def _problems(settings: PostprocessingSettings, method: Method, ndim: int) -> Iterator[str]:
    yield from (f"[postprocessing] {text}" for text in settings.problems(ndim))
    if method.coding is not None and settings.median:
        yield (
            "[postprocessing] median: expected a method that predicts values of voxels, found one"
            " that predicts codes, whose medians mean nothing; remove the key"
        )
    if settings.voronoi.head is not None:
        try:
            head = head_of(settings, method.heads)
        except ConfigError as error:
            yield str(error)
            return
        if method.coding is not None and head.name == method.heads[0].name:
            yield (
                f"[postprocessing.voronoi] head: expected a head of values, found {head.name},"
                f" which holds codes; use one of"
                f" {', '.join(other.name for other in method.heads[1:]) or 'another method'}"
            )


def check_sample(sample: Sample, settings: PostprocessingSettings) -> None:
    """Check that a sample has what post-processing needs.

    Raises
    ------
    DataError
        If it has no region of interest, or its voxels do not suit what is measured.
    """
    if settings.roi_key is not None:
        open_roi(sample, settings.roi_key)
    check_properties(settings.measured, sample.resolution, settings.perimeter)

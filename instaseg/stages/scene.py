"""What post-processing needs of a sample beside its instances, from its files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.errors import ConfigError, DataError
from instaseg.geometry import Coordinate, box_of
from instaseg.io.arrays import IMAGE_SUFFIXES, Reader, open_array, slabs
from instaseg.io.pairing import FOLDER_PAIRS, image_files
from instaseg.io.quantise import dequantise
from instaseg.io.resampled import ResampledReader
from instaseg.io.samples import Sample, Source
from instaseg.methods.base import Head, Method
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.postprocess.medians import filter_box
from instaseg.postprocess.properties import check_properties
from instaseg.postprocess.scene import Scene
from instaseg.regions.thresholds import count_values, otsu
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
        shape = image_shape(prediction, heads_of(settings, method.heads))
        mask = mask if shape is None else ResampledReader(mask, shape, "nearest")
    return Scene(sample.resolution, roi, mask)


def open_roi(sample: Sample, key: str) -> Reader:
    """Open a sample's region of interest, scaled to the image by the nearest voxel.

    Parameters
    ----------
    sample : Sample
        Its image, a file or an array of one.
    key : str
        Another array of that file; of an image file, the folder beside the images that holds a file
        of the same name; of sections, the folder beside theirs that holds as many.

    Raises
    ------
    DataError
        If the sample has no such array, or one of other axes.
    """
    # opened as a mask of complete labels is: ([z,] y, x), at the size it is stored in
    opened = replace(sample, mask=_roi_source(sample, key), size=None).open_mask()
    assert opened is not None, "a sample with a mask opens it"
    return ResampledReader(opened, sample.open_raw().shape[1:], "nearest")


def _roi_source(sample: Sample, key: str) -> Source:
    path, images = sample.raw.path, {images for images, _ in FOLDER_PAIRS}
    if path.suffix.lower() in IMAGE_SUFFIXES:
        folder = (path.parent.parent if path.parent.name in images else path.parent) / key
        found = [file for file in image_files(folder) if file.stem == path.stem]
        wanted = f"an image {path.stem} in the folder {folder}"
    elif sample.raw.key or not path.is_dir():
        return Source(path, key)
    else:  # the sections of a volume
        folder = path.parent / key if path.name in images else path.parent.parent / key / path.name
        found = [folder] if image_files(folder) else []
        wanted = f"the sections of a volume in the folder {folder}"
    if not found:
        raise DataError(
            f"sample {sample.name}: expected {wanted} (postprocessing.roi_key), found none; add"
            " it, or remove the key"
        )
    return Source(found[0])


def roi_state(sample: Sample, settings: PostprocessingSettings) -> tuple[str, ...]:
    """Return what tells one region of interest from another, for fingerprints; () without one."""
    if settings.roi_key is None:
        return ()
    source = _roi_source(sample, settings.roi_key)
    return (replace(sample, labels=None, mask=source).identity(),)


class PredictedMask:
    """Where a channel of a stored prediction is above or below a threshold, without its margin.

    A threshold by Otsu's method is that of the whole image, read slab by slab.

    Parameters
    ----------
    prediction : Path
        Zarr folder of the predicted heads.
    settings : PostprocessingSettings
        ``[voronoi]`` names heads, channel, side and threshold; `median` filters channels before.
    method : Method
        Knows the heads, and the margin of their arrays.

    Raises
    ------
    DataError
        If the prediction is not there.
    """

    def __init__(self, prediction: Path, settings: PostprocessingSettings, method: Method) -> None:
        first, *others = heads_of(settings, method.heads)
        self._channels = [(open_array(prediction, first.key), settings.voronoi.channel)]
        self._channels += [(open_array(prediction, head.key), 0) for head in others]
        self._medians = settings.medians
        self._margin = method.margin
        self.shape: Coordinate = tuple(
            n - 2 * m for n, m in zip(self._channels[0][0].shape[1:], self._margin, strict=True)
        )
        self.dtype: np.dtype[Any] = np.dtype(bool)
        threshold = settings.voronoi.threshold
        # Otsu's threshold is itself one of the low values
        below = np.less_equal if threshold == "otsu" else np.less
        self._compare = np.greater if settings.voronoi.side == "above" else below
        self._threshold = np.float32(self._otsu() if threshold == "otsu" else threshold)

    def _otsu(self) -> float:
        return otsu(reduce(add, (count_values(self._values(part)) for part in slabs(self.shape))))

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[np.bool_]:
        """Return the part named by one slice per axis, without steps."""
        return np.asarray(self._compare(self._values(index), self._threshold), dtype=bool)

    def _values(self, index: tuple[slice, ...]) -> NDArray[np.float32]:
        """Return a part of the sum of the channels."""
        box = box_of(index, self.shape).shift(self._margin)
        total = np.zeros(box.shape, np.float32)
        for stored, channel in self._channels:
            (found,) = filter_box(stored, slice(channel, channel + 1), box, self._medians)
            total += dequantise(found)
        return total


def heads_of(settings: PostprocessingSettings, heads: Sequence[Head]) -> list[Head]:
    """Return the heads that make the mask in which instances grow.

    Raises
    ------
    ConfigError
        If the method has no such head, or the first no such channel.
    """
    voronoi, known = settings.voronoi, {head.name: head for head in heads}
    assert voronoi.head is not None, "ask before"
    named = {"head": (voronoi.head,), "plus": voronoi.plus}
    for key, names in named.items():
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"[postprocessing.voronoi] {key}: must be a head of the method,"
                    f" {', '.join(known)}; got {name}"
                )
    head = known[voronoi.head]
    if voronoi.channel >= head.channels:
        raise ConfigError(
            f"[postprocessing.voronoi] channel: must be below {head.channels}, the channels of the"
            f" head {head.name}; got {voronoi.channel}"
        )
    return [head, *(known[name] for name in voronoi.plus)]


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
            heads = heads_of(settings, method.heads)
        except ConfigError as error:
            yield str(error)
            return
        if method.coding is not None and method.heads[0] in heads:
            yield (
                "[postprocessing.voronoi]: expected heads of values, found"
                f" {method.heads[0].name},"
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

"""The gunpowder pipeline that cuts and augments one training crop.

::

    sample 0 ─┐
    sample 1 ─┼► RandomCrop ► Deform ► SimpleAugment ► Overlay ► colours ► Intensity ► Blur ► Noise
    ...      ─┘

Every request has a seed of its own, and every node draws from that seed alone, so that a crop can
be drawn again at any time by any process. World units are voxels. This is the only module that
imports gunpowder (2 s): it is loaded where crops are made, by :mod:`instaseg.data.batches`.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from instaseg.data.config import (
    AugmentationSettings,
    Axes,
    ElasticSettings,
    OverlaySettings,
    SamplingSettings,
)
from instaseg.data.crops import CropImage, LocationSampler
from instaseg.errors import DataError
from instaseg.geometry import Box

with warnings.catch_warnings():
    # gunpowder's own imports: old names of scipy (augment-nd) and of pydantic (funlib.persistence).
    for message in ("Please import .* `scipy.ndimage", "Support for class-based `config`"):
        warnings.filterwarnings("ignore", message=message, category=DeprecationWarning)
    import gunpowder as gp

RAW = gp.ArrayKey("RAW")
LABELS = gp.ArrayKey("LABELS")
MASK = gp.ArrayKey("MASK")
SAMPLE = gp.ArrayKey("SAMPLE")
# gunpowder has no unbounded source that can be asked for a box, so sources offer a huge one.
_REACH = 2**30


@dataclass(frozen=True)
class Crop:
    """One training crop.

    Parameters
    ----------
    raw : ndarray of float32
        Normalised, augmented image ``(c, *input_shape)``.
    labels : ndarray of int32
        Layers of labels with context, ``(l, [z,] y, x)``; ids are only good within the crop.
    mask : ndarray of uint8
        1 where labels are complete, of the network's output shape.
    resolution : tuple of float
        Physical size of a voxel of the sample it comes from.
    """

    raw: NDArray[np.float32]
    labels: NDArray[np.int32]
    mask: NDArray[np.uint8]
    resolution: tuple[float, ...]


class CropPipeline:
    """Draws training crops; the same seed draws the same crop.

    Parameters
    ----------
    images : sequence of CropImage
        What crops are cut from.
    boxes : mapping of str to Box
        Boxes of ``raw``, ``labels`` and ``mask`` relative to each other; that of the mask is the
        network's output, by which locations are chosen.
    sampling : SamplingSettings
        Where crops are taken.
    augmentation : AugmentationSettings, optional
        How they are changed; None leaves them as they are.
    """

    def __init__(
        self,
        images: Sequence[CropImage],
        boxes: Mapping[str, Box],
        sampling: SamplingSettings,
        augmentation: AugmentationSettings | None,
    ) -> None:
        self._images = images
        masked = any(image.mask is not None for image in images)
        self._asked = {RAW: boxes["raw"], LABELS: boxes["labels"]} | (
            {MASK: boxes["mask"]} if masked else {}
        )
        self._complete = np.ones(boxes["mask"].shape, dtype=np.uint8)
        locations = LocationSampler(images, sampling, boxes["mask"].shape)
        node: Any = tuple(_Source(image) for image in images) + _RandomCrop(locations)
        if augmentation is not None:
            resolution = images[0].resolution
            for step in _augmentation_nodes(augmentation, resolution):
                node = node + step
        self._node = node
        self._node.setup()

    def draw(self, seed: int) -> Crop:
        """Return the crop of one seed (32 bits).

        Raises
        ------
        DataError
            If a part of a sample cannot be read.
        """
        request = gp.BatchRequest(random_seed=seed)
        for key, box in self._asked.items():
            request[key] = gp.ArraySpec(roi=gp.Roi(box.begin, box.shape))
        request[SAMPLE] = gp.ArraySpec(nonspatial=True)
        with _global_generators_kept():
            try:
                batch = self._node.request_batch(request)
            except gp.PipelineRequestError as error:
                raise _cause(error) from error
        return Crop(
            raw=np.ascontiguousarray(batch[RAW].data, dtype=np.float32),
            labels=np.ascontiguousarray(batch[LABELS].data),
            mask=np.ascontiguousarray(batch[MASK].data) if MASK in batch else self._complete,
            resolution=self._images[int(batch[SAMPLE].data)].resolution,
        )


@contextmanager
def _global_generators_kept() -> Iterator[None]:
    """Leave the generators of `random` and `numpy.random`, which gunpowder seeds, as they were."""
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _cause(error: BaseException) -> BaseException:
    """Return the DataError that gunpowder has wrapped, else the error itself."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, DataError):
            return found
        found = found.__cause__ or found.__context__
    return error


def _augmentation_nodes(
    settings: AugmentationSettings, resolution: tuple[float, ...]
) -> Iterator[Any]:
    """Yield the nodes that are not turned off."""
    ndim = len(resolution)
    if settings.elastic.probability > 0:
        yield _Deform(settings.elastic, resolution)
    mirror, transpose = _axes(settings.simple.mirror, ndim), _axes(settings.simple.transpose, ndim)
    if mirror or len(transpose) > 1:
        yield gp.SimpleAugment(mirror_only=mirror, transpose_only=transpose)
    if settings.overlay.probability > 0:
        yield _Overlay(settings.overlay)
    if settings.permute_channels.probability > 0:
        yield _PermuteChannels(settings.permute_channels.probability)
    if settings.hue.probability > 0:
        yield _Hue(settings.hue.range, settings.hue.probability)
    scale, shift = settings.intensity.scale, settings.intensity.shift
    if scale != (1, 1) or shift != (0, 0):
        yield gp.IntensityAugment(RAW, *scale, *shift, clip=False)
    if settings.blur.probability > 0:
        yield _Blur(settings.blur.sigma, settings.blur.probability)
    if settings.noise.probability > 0:
        yield _Noise(settings.noise.sigma, settings.noise.probability)


def _axes(axes: Axes, ndim: int) -> list[int]:
    """Return axis numbers; those a sample does not have are left out."""
    return [axis for axis in range(ndim) if axes == "all" or axis in axes]


def _box(roi: gp.Roi) -> Box:
    return Box(tuple(roi.begin), tuple(roi.end))


class _Source(gp.BatchProvider):  # type: ignore[misc]
    """One sample, mirrored without end."""

    def __init__(self, image: CropImage) -> None:
        self._image = image

    def setup(self) -> None:
        ndim = len(self._image.shape)
        roi = gp.Roi((-_REACH,) * ndim, (2 * _REACH,) * ndim)
        for key, dtype in ((RAW, np.float32), (LABELS, np.int32), (MASK, np.uint8)):
            spec = gp.ArraySpec(
                roi=roi, voxel_size=(1,) * ndim, interpolatable=key == RAW, dtype=dtype
            )
            self.provides(key, spec)

    def provide(self, request: gp.BatchRequest) -> gp.Batch:
        cut = {
            RAW: self._image.crop_raw,
            LABELS: self._image.crop_labels,
            MASK: self._image.crop_mask,
        }
        batch = gp.Batch()
        for key, wanted in request.items():
            spec = self.spec[key].copy()
            spec.roi = wanted.roi
            batch[key] = gp.Array(cut[key](_box(spec.roi)), spec)
        return batch


class _RandomCrop(gp.BatchProvider):  # type: ignore[misc]
    """Chooses a sample and a place in it, and asks that sample's source.

    gunpowder's RandomProvider and RandomLocation choose the sample first, all alike, and cannot
    draw each instance equally often or leave a small image.
    """

    def __init__(self, locations: LocationSampler) -> None:
        self._locations = locations

    def setup(self) -> None:
        for key, spec in self.get_upstream_providers()[0].spec.items():
            self.provides(key, spec)
        self.provides(SAMPLE, gp.ArraySpec(nonspatial=True))

    def provide(self, request: gp.BatchRequest) -> gp.Batch:
        rng = np.random.default_rng(request.random_seed)
        number, box = self._locations.draw(rng)
        del request[SAMPLE]
        wanted = request[LABELS].roi
        # The boxes may have been enlarged or turned downstream; their centre has stayed.
        target = [b + s // 2 for b, s in zip(box.begin, box.shape, strict=True)]
        centre = [b + s // 2 for b, s in zip(wanted.begin, wanted.shape, strict=True)]
        shift = gp.Coordinate(t - c for t, c in zip(target, centre, strict=True))
        asked = {key: spec.roi for key, spec in request.items()}
        for key, roi in asked.items():
            request[key].roi = roi.shift(shift)
        batch = self.get_upstream_providers()[number].request_batch(request)
        for key, roi in asked.items():
            batch[key].spec.roi = roi
        batch[SAMPLE] = gp.Array(np.array(number), gp.ArraySpec(nonspatial=True))
        return batch


class _Deform(gp.BatchFilter):  # type: ignore[misc]
    """Rotation in the y-x plane, zoom, and elastic deformation, in one interpolation.

    Not gunpowder's DeformAugment, which always rotates through the whole circle, in 3-D about all
    axes, nor its ElasticAugment, which is deprecated.
    """

    def __init__(self, settings: ElasticSettings, resolution: tuple[float, ...]) -> None:
        ndim = len(resolution)
        _per_axis(settings.control_point_spacing, ndim)
        _per_axis(settings.jitter_sigma, ndim)
        self._settings = settings
        self._resolution = np.array(resolution)
        self._coordinates: dict[Any, NDArray[np.float32]] = {}

    def prepare(self, request: gp.BatchRequest) -> gp.BatchRequest:
        """Draw the deformation, and ask for the boxes it reads."""
        rng = np.random.default_rng(request.random_seed)
        self._coordinates = {}
        if rng.random() >= self._settings.probability:
            return request
        total = _box(request.get_total_roi())
        field = draw_deformation(rng, self._settings, total, self._resolution)
        for key, spec in request.items():
            if spec.nonspatial:
                continue
            inner = _box(spec.roi).shift(tuple(-b for b in total.begin))
            coordinates = field[(slice(None), *inner.slices)]
            space = tuple(range(1, field.ndim))
            begin = np.floor(coordinates.min(axis=space)).astype(int)
            end = np.ceil(coordinates.max(axis=space)).astype(int) + 1
            spec.roi = gp.Roi(begin.tolist(), (end - begin).tolist())
            first = begin.astype(np.float32).reshape(-1, *(1,) * len(space))
            self._coordinates[key] = coordinates - first
        return request

    def process(self, batch: gp.Batch, request: gp.BatchRequest) -> None:
        """Interpolate the image linearly, labels and mask by the nearest voxel."""
        for key, coordinates in self._coordinates.items():
            array = batch[key]
            order = 1 if key == RAW else 0
            array.data = deform(array.data, coordinates, order)
            array.spec.roi = request[key].roi


def deform(image: NDArray[Any], coordinates: NDArray[np.float32], order: int) -> NDArray[Any]:
    """Return `image` sampled at `coordinates`.

    Parameters
    ----------
    image : ndarray
        Its last axes are spatial; leading ones are channels.
    coordinates : ndarray of float32
        Positions in voxels, ``(d, *shape)``.
    order : {0, 1}
        Nearest voxel or linear interpolation.

    Returns
    -------
    ndarray
        Leading axes of `image`, then `shape`; same dtype.
    """
    ndim = coordinates.shape[0]
    channels = image.reshape(-1, *image.shape[image.ndim - ndim :])
    sampled = [
        ndimage.map_coordinates(c, coordinates, order=order, mode="nearest", prefilter=False)
        if c.any()
        else np.zeros(coordinates.shape[1:], dtype=image.dtype)
        for c in channels
    ]
    return np.stack(sampled).reshape(*image.shape[: image.ndim - ndim], *coordinates.shape[1:])


def draw_deformation(
    rng: np.random.Generator,
    settings: ElasticSettings,
    box: Box,
    resolution: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Return where every voxel of a box is read: rotated and zoomed about its centre, and moved.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of angle, zoom and jitter.
    settings : ElasticSettings
        Ranges.
    box : Box
        Voxels to compute.
    resolution : ndarray
        Physical size of a voxel per axis; rotation is in physical space.

    Returns
    -------
    ndarray of float32
        Positions in voxels, ``(d, *box.shape)``.
    """
    ndim = len(box.begin)
    angle = np.deg2rad(rng.uniform(settings.rotation_min, settings.rotation_max))
    matrix = np.eye(ndim)
    matrix[-2:, -2:] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    matrix = matrix * resolution[np.newaxis, :] / resolution[:, np.newaxis]
    matrix = matrix / rng.uniform(*settings.zoom)
    centre = np.array([(b + e - 1) / 2 for b, e in zip(box.begin, box.end, strict=True)])
    axes = [
        (np.arange(b, e) - c).astype(np.float32)
        for b, e, c in zip(box.begin, box.end, centre, strict=True)
    ]
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)
    field = np.empty((ndim, *box.shape), dtype=np.float32)
    for row in range(ndim):
        field[row] = sum(np.float32(matrix[row, k]) * grid[k] for k in range(ndim))
        field[row] += np.float32(centre[row])
    spacing = _per_axis(settings.control_point_spacing, ndim)
    for row, sigma in enumerate(_per_axis(settings.jitter_sigma, ndim)):
        if sigma > 0:
            field[row] += smooth_noise(rng, box.shape, spacing) * np.float32(sigma)
    return field


def _per_axis(values: tuple[Any, ...], ndim: int) -> tuple[Any, ...]:
    """Return one value per axis; a single one counts for all."""
    if len(values) == 1:
        return values * ndim
    if len(values) != ndim:
        raise DataError(
            f"[training.augmentation.elastic]: expected 1 or {ndim} numbers in"
            f" control_point_spacing and jitter_sigma (data.ndim = {ndim}), found {list(values)}"
        )
    return values


def smooth_noise(
    rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[int]
) -> NDArray[np.float32]:
    """Return standard normal values at control points, interpolated smoothly to every voxel.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the values.
    shape : sequence of int
        Voxels per axis.
    spacing : sequence of int
        Voxels between control points per axis.

    Returns
    -------
    ndarray of float32
        Array of `shape`.

    Notes
    -----
    Cubic interpolation through the points (Catmull and Rom 1974), axis by axis.
    """
    weights = [_cubic_weights(n, s) for n, s in zip(shape, spacing, strict=True)]
    values = rng.standard_normal([w.shape[1] for w in weights]).astype(np.float32)
    for axis, weight in enumerate(weights):
        lines = np.moveaxis(values, axis, 0)
        # einsum, not matmul: for so little work BLAS threads cost more than they save.
        mixed = np.einsum("ij,jk->ik", weight, lines.reshape(len(lines), -1))
        values = np.moveaxis(mixed.reshape(len(mixed), *lines.shape[1:]), 0, axis)
    return values


def _cubic_weights(size: int, spacing: int) -> NDArray[np.float32]:
    """Return ``(size, points)``: how much each control point of an axis counts at each voxel."""
    position = np.arange(size) / spacing
    left = position.astype(int)
    t = position - left
    # The points lie at -1, 0, 1, 2 around the interval [0, 1] that t is in.
    columns = (
        -0.5 * t + t**2 - 0.5 * t**3,
        1 - 2.5 * t**2 + 1.5 * t**3,
        0.5 * t + 2 * t**2 - 1.5 * t**3,
        -0.5 * t**2 + 0.5 * t**3,
    )
    weights = np.zeros((size, int(left[-1]) + 4), dtype=np.float32)
    for k, column in enumerate(columns):
        weights[np.arange(size), left + k] = column
    return weights


class _Overlay(gp.BatchProvider):  # type: ignore[misc]
    """A second crop laid over some of the crops; its instances lie in layers of their own.

    It is drawn and deformed as the first, by a seed of its own. Crops without one get empty layers,
    so that all have as many.
    """

    def __init__(self, settings: OverlaySettings) -> None:
        self._settings = settings

    def setup(self) -> None:
        for key, spec in self.get_upstream_providers()[0].spec.items():
            self.provides(key, spec)

    def provide(self, request: gp.BatchRequest) -> gp.Batch:
        rng = np.random.default_rng(request.random_seed)
        batch = self._request(request, rng)
        if rng.random() < self._settings.probability:
            over = self._request(request, rng)
            combine = np.maximum if self._settings.combine == "max" else np.minimum
            batch[RAW].data = combine(batch[RAW].data, over[RAW].data)
            batch[LABELS].data = stack_layers(batch[LABELS].data, over[LABELS].data)
            if MASK in batch:
                batch[MASK].data = batch[MASK].data & over[MASK].data
        else:
            none = np.zeros_like(batch[LABELS].data)
            batch[LABELS].data = stack_layers(batch[LABELS].data, none)
        return batch

    def _request(self, request: gp.BatchRequest, rng: np.random.Generator) -> gp.Batch:
        """Return what a new seed gives."""
        again = gp.BatchRequest(random_seed=int(rng.integers(2**32)))
        for key, spec in request.items():
            again[key] = spec.copy()
        return self.get_upstream_providers()[0].request_batch(again)


def stack_layers(first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the layers of two crops ``(l, ...)`` as one, ids of the second above the first's.

    Examples
    --------
    >>> stack_layers(np.array([[0, 7]], np.int32), np.array([[1, 0]], np.int32)).tolist()
    [[0, 7], [8, 0]]
    """
    return np.concatenate([first, np.where(second != 0, second + first.max(), 0)], dtype=np.int32)


class _PermuteChannels(gp.BatchFilter):  # type: ignore[misc]
    """The channels of some of the images in another order."""

    def __init__(self, probability: float) -> None:
        self._probability = probability
        self._rng = np.random.default_rng(0)

    def prepare(self, request: gp.BatchRequest) -> None:
        """Take the seed of this request."""
        self._rng = np.random.default_rng(request.random_seed)

    def process(self, batch: gp.Batch, request: gp.BatchRequest) -> None:  # noqa: ARG002
        """Draw whether, and the order."""
        if self._rng.random() < self._probability:
            array = batch[RAW]
            array.data = array.data[self._rng.permutation(len(array.data))]


class _Hue(gp.BatchFilter):  # type: ignore[misc]
    """Another hue for some of the RGB images."""

    def __init__(self, degrees: tuple[float, float], probability: float) -> None:
        self._degrees = degrees
        self._probability = probability
        self._rng = np.random.default_rng(0)

    def prepare(self, request: gp.BatchRequest) -> None:
        """Take the seed of this request."""
        self._rng = np.random.default_rng(request.random_seed)

    def process(self, batch: gp.Batch, request: gp.BatchRequest) -> None:  # noqa: ARG002
        """Draw whether, and by how much."""
        if self._rng.random() < self._probability:
            array = batch[RAW]
            array.data = turn_hue(array.data, self._rng.uniform(*self._degrees))


def turn_hue(image: NDArray[np.float32], degrees: float) -> NDArray[np.float32]:
    """Return an RGB image ``(3, ...)`` with its hue turned, brightest and darkest values kept.

    Works for any range of values, unlike conversions that expect 0 to 1: hue is where the middle
    channel lies between the other two (Smith 1978, "Color gamut transform pairs").

    Examples
    --------
    >>> turn_hue(np.array([[5.0], [-1.0], [-1.0]], np.float32), 60).ravel().tolist()  # red: yellow
    [5.0, 5.0, -1.0]
    """
    red, green, blue = image
    high, low = image.max(axis=0), image.min(axis=0)
    chroma = high - low
    scale = np.divide(1, chroma, where=chroma > 0, out=np.zeros_like(chroma))
    hue = np.where(
        high == red,
        (green - blue) * scale,
        np.where(high == green, (blue - red) * scale + 2, (red - green) * scale + 4),
    ).astype(np.float32)
    hue += np.float32(degrees / 60)
    turned = np.empty_like(image)
    for channel, shift in enumerate((5, 3, 1)):
        # Distance along the circle of six sixths: high on two of them, low on two, and between.
        k = np.mod(hue + shift, 6)
        turned[channel] = high - chroma * np.clip(np.minimum(k, 4 - k), 0, 1)
    return turned


class _Blur(gp.BatchFilter):  # type: ignore[misc]
    """Gaussian blur of the image in some of the crops."""

    def __init__(self, sigma: tuple[float, float], probability: float) -> None:
        self._sigma = sigma
        self._probability = probability
        self._drawn = 0.0

    def prepare(self, request: gp.BatchRequest) -> None:
        """Draw whether, and how much."""
        rng = np.random.default_rng(request.random_seed)
        happens = rng.random() < self._probability
        self._drawn = rng.uniform(*self._sigma) if happens else 0.0

    def process(self, batch: gp.Batch, request: gp.BatchRequest) -> None:  # noqa: ARG002
        """Blur each channel."""
        if self._drawn > 0:
            array = batch[RAW]
            sigma = (0, *(self._drawn,) * (array.data.ndim - 1))
            array.data = ndimage.gaussian_filter(array.data, sigma)


class _Noise(gp.BatchFilter):  # type: ignore[misc]
    """Gaussian noise in some of the crops."""

    def __init__(self, sigma: float, probability: float) -> None:
        self._sigma = sigma
        self._probability = probability
        self._rng = np.random.default_rng(0)

    def prepare(self, request: gp.BatchRequest) -> None:
        """Take the seed of this request."""
        self._rng = np.random.default_rng(request.random_seed)

    def process(self, batch: gp.Batch, request: gp.BatchRequest) -> None:  # noqa: ARG002
        """Add noise of one strength to all channels."""
        if self._rng.random() < self._probability:
            array = batch[RAW]
            noise = self._rng.standard_normal(array.data.shape, dtype=np.float32)
            array.data = array.data + noise * np.float32(self._rng.uniform(0, self._sigma))

"""The gunpowder pipeline that cuts and augments one training crop.

::

    sample 0 ─┐
    sample 1 ─┼► RandomCrop ► Deform ► SimpleAugment ► Overlay ► colours ► values ► noise ► parts
    ...      ─┘

Every request has a seed of its own, and every node draws from that seed alone, so that a crop can
be drawn again at any time by any process. World units are voxels. What happens to arrays is in the
modules ``augment_*``; here are the nodes around it. This is the only module that imports gunpowder
(2 s): it is loaded where crops are made, by :mod:`instaseg.data.batches`.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.data.augment_geometry import (
    deform,
    draw_deformation,
    draw_misalignment,
    per_axis,
    undeformed,
)
from instaseg.data.augment_parts import (
    common_classes,
    stack_layers,
    with_hidden_boxes,
    with_missing_sections,
)
from instaseg.data.augment_values import (
    blurred,
    gamma_curve,
    other_hue,
    permuted_channels,
    with_dropout,
    with_noise,
    with_salt_and_pepper,
    with_shot_noise,
    without_colour,
)
from instaseg.data.config import (
    AugmentationSettings,
    Axes,
    ElasticSettings,
    MisalignmentSettings,
    OverlaySettings,
    SamplingSettings,
)
from instaseg.data.crops import CropImage, Location, LocationSampler
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
CLASSES = gp.ArrayKey("CLASSES")
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
    classes : ndarray of uint8
        Class of the instance at a voxel, 0 where none is known; shaped as the mask.
    resolution : tuple of float
        Physical size of a voxel of the sample it comes from.
    location : Location
        Where it was taken, before it was turned, deformed or mirrored.
    """

    raw: NDArray[np.float32]
    labels: NDArray[np.int32]
    mask: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    resolution: tuple[float, ...]
    location: Location


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
        self._asked = {RAW: boxes["raw"], LABELS: boxes["labels"]}
        if any(image.mask is not None for image in images):
            self._asked[MASK] = boxes["mask"]
        if any(image.classes is not None for image in images):
            self._asked[CLASSES] = boxes["mask"]
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
        location = Location.from_numbers(batch[SAMPLE].data, self._complete.shape)
        return Crop(
            raw=np.ascontiguousarray(batch[RAW].data, dtype=np.float32),
            labels=np.ascontiguousarray(batch[LABELS].data),
            mask=np.ascontiguousarray(batch[MASK].data) if MASK in batch else self._complete,
            classes=(
                np.ascontiguousarray(batch[CLASSES].data)
                if CLASSES in batch
                else np.zeros_like(self._complete)
            ),
            resolution=self._images[location.number].resolution,
            location=location,
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
    if settings.elastic.probability > 0 or settings.misalignment.probability > 0:
        yield _Deform(settings.elastic, settings.misalignment, resolution)
    mirror, swapped = _axes(settings.simple.mirror, ndim), settings.simple.transpose
    transpose = _alike(resolution) if swapped == "all" else _axes(swapped, ndim)
    if mirror or len(transpose) > 1:
        yield gp.SimpleAugment(mirror_only=mirror, transpose_only=transpose)
    if settings.overlay.probability > 0:
        yield _Overlay(settings.overlay)
    yield from _changes(_colours(settings))
    scale, shift = settings.intensity.scale, settings.intensity.shift
    happens = settings.intensity.probability
    if happens > 0 and (scale != (1, 1) or shift != (0, 0)):
        yield gp.IntensityAugment(RAW, *scale, *shift, clip=False, p=happens)
    yield from _changes(_values(settings))


Change = Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]]


def _changes(steps: Sequence[tuple[float, Change]]) -> Iterator[_Change]:
    """Yield a node for each change that has a probability."""
    for probability, change in steps:
        if probability > 0:
            yield _Change(change, probability)


def _colours(settings: AugmentationSettings) -> list[tuple[float, Change]]:
    """Return what happens to channels, in order, and how often."""
    hue = settings.hue
    return [
        (settings.permute_channels.probability, permuted_channels),
        (hue.probability, partial(other_hue, settings=hue)),
        (settings.grayscale.probability, without_colour),
    ]


def _values(settings: AugmentationSettings) -> list[tuple[float, Change]]:
    """Return what happens to values after contrast and brightness, in order, and how often."""
    gamma, blur, poisson, noise = settings.gamma, settings.blur, settings.poisson, settings.noise
    salt, dropout, cutout = settings.salt_pepper, settings.dropout, settings.cutout
    missing = settings.missing_sections
    return [
        (gamma.probability, partial(gamma_curve, settings=gamma)),
        (blur.probability, partial(blurred, settings=blur)),
        (poisson.probability, partial(with_shot_noise, settings=poisson)),
        (noise.probability, partial(with_noise, settings=noise)),
        (salt.probability, partial(with_salt_and_pepper, settings=salt)),
        (dropout.probability, partial(with_dropout, settings=dropout)),
        (cutout.probability, partial(with_hidden_boxes, settings=cutout)),
        (missing.probability, partial(with_missing_sections, settings=missing)),
    ]


def _axes(axes: Axes, ndim: int) -> list[int]:
    """Return axis numbers; those a sample does not have are left out."""
    return [axis for axis in range(ndim) if axes == "all" or axis in axes]


def _alike(resolution: Sequence[float]) -> list[int]:
    """Return the axes along which voxels have the same size, the largest such group."""
    groups = [[a for a, one in enumerate(resolution) if one == size] for size in resolution]
    return max(groups, key=len)


def _box(roi: gp.Roi) -> Box:
    return Box(tuple(roi.begin), tuple(roi.end))


class _Source(gp.BatchProvider):  # type: ignore[misc]
    """One sample, mirrored without end."""

    def __init__(self, image: CropImage) -> None:
        self._image = image

    def setup(self) -> None:
        ndim = len(self._image.shape)
        roi = gp.Roi((-_REACH,) * ndim, (2 * _REACH,) * ndim)
        types = {RAW: np.float32, LABELS: np.int32, MASK: np.uint8, CLASSES: np.uint8}
        for key, dtype in types.items():
            spec = gp.ArraySpec(
                roi=roi, voxel_size=(1,) * ndim, interpolatable=key == RAW, dtype=dtype
            )
            self.provides(key, spec)

    def provide(self, request: gp.BatchRequest) -> gp.Batch:
        cut = {
            RAW: self._image.crop_raw,
            LABELS: self._image.crop_labels,
            MASK: self._image.crop_mask,
            CLASSES: self._image.crop_classes,
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
        location = self._locations.draw(rng)
        number, box = location.number, location.box
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
        batch[SAMPLE] = gp.Array(location.numbers(), gp.ArraySpec(nonspatial=True))
        return batch


class _Deform(gp.BatchFilter):  # type: ignore[misc]
    """Rotation, shear, zoom, elastic deformation, misaligned sections, in one interpolation.

    Not gunpowder's DeformAugment, which always rotates through the whole circle, in 3-D about all
    axes, nor its ElasticAugment, which is deprecated.
    """

    def __init__(
        self,
        settings: ElasticSettings,
        misalignment: MisalignmentSettings,
        resolution: tuple[float, ...],
    ) -> None:
        ndim = len(resolution)
        per_axis(settings.control_point_spacing, ndim)
        per_axis(settings.jitter_sigma, ndim)
        self._settings = settings
        self._misalignment = misalignment
        self._resolution = np.array(resolution)
        self._coordinates: dict[Any, NDArray[np.float32]] = {}

    def prepare(self, request: gp.BatchRequest) -> gp.BatchRequest:
        """Draw the deformation, and ask for the boxes it reads."""
        rng = np.random.default_rng(request.random_seed)
        self._coordinates = {}
        total = _box(request.get_total_roi())
        field = self._draw(rng, total)
        if field is None:
            return request
        for key, spec in request.items():
            if spec.nonspatial:
                continue
            inner = _box(spec.roi).relative_to(total)
            coordinates = field[(slice(None), *inner.slices)]
            space = tuple(range(1, field.ndim))
            begin = np.floor(coordinates.min(axis=space)).astype(int)
            end = np.ceil(coordinates.max(axis=space)).astype(int) + 1
            spec.roi = gp.Roi(begin.tolist(), (end - begin).tolist())
            first = begin.astype(np.float32).reshape(-1, *(1,) * len(space))
            self._coordinates[key] = coordinates - first
        return request

    def _draw(self, rng: np.random.Generator, total: Box) -> NDArray[np.float32] | None:
        """Return where the voxels of a box are read; None where nothing moves."""
        field = None
        if rng.random() < self._settings.probability:
            field = draw_deformation(rng, self._settings, total, self._resolution)
        if rng.random() < self._misalignment.probability:
            moved = draw_misalignment(rng, self._misalignment, total.shape[0])
            field = undeformed(total) if field is None else field
            for axis in (0, 1):
                field[1 + axis] += moved[:, axis, np.newaxis, np.newaxis]
        return field

    def process(self, batch: gp.Batch, request: gp.BatchRequest) -> None:
        """Interpolate the image linearly, labels and mask by the nearest voxel."""
        for key, coordinates in self._coordinates.items():
            array = batch[key]
            order = 1 if key == RAW else 0
            array.data = deform(array.data, coordinates, order)
            array.spec.roi = request[key].roi


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
            if CLASSES in batch:
                batch[CLASSES].data = common_classes(batch[CLASSES].data, over[CLASSES].data)
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


class _Change(gp.BatchFilter):  # type: ignore[misc]
    """A change of the image alone, in some of the crops."""

    def __init__(self, change: Change, probability: float) -> None:
        self._change = change
        self._probability = probability
        self._rng = np.random.default_rng(0)

    def prepare(self, request: gp.BatchRequest) -> None:
        """Take the seed of this request."""
        self._rng = np.random.default_rng(request.random_seed)

    def process(self, batch: gp.Batch, request: gp.BatchRequest) -> None:  # noqa: ARG002
        """Draw whether, and change the image."""
        if self._rng.random() < self._probability:
            array = batch[RAW]
            array.data = self._change(array.data, self._rng)

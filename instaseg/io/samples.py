"""Samples of a data set: which images there are, and which labels belong to them.

Layouts of a folder, tried in this order where the format is left open::

    <folder>/a.zarr ...            volumes/raw, and volumes/gt_labels or volumes/gt_instances inside
    <folder>/a.hdf ...             the same keys inside, or the annotations of CREMI
    <folder>/x/a.tif  y/a.tif      images and labels, paired by name or by the number in it
    <folder>/images/  masks/       likewise, as are raw/ and label/
    <folder>/a.tif ...             images only
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from instaseg.data.config import DataSettings
from instaseg.errors import DataError
from instaseg.io import cremi, ome_zarr
from instaseg.io.arrays import (
    HDF_SUFFIXES,
    ZARR_SUFFIXES,
    Reader,
    array_attributes,
    has_array,
    open_array,
)
from instaseg.io.pairing import FOLDER_PAIRS, image_files, pair_images, visible_files
from instaseg.io.points import Points
from instaseg.io.resampled import ResampledReader
from instaseg.io.stacks import StackReader

Truth = Literal["labels", "instances", "points"]
"""Ground truth as one label per voxel, as one channel per instance, where instances overlap, or as
a table of points."""

Wanted = Literal["labels", "points", "clefts"]
"""What a method learns: labels of either kind, points, or labels of painted clefts."""


@dataclass(frozen=True)
class Source:
    """Where an array is: a path, and a key for formats that hold several arrays.

    A folder that is no zarr is one of sections, see :class:`instaseg.io.stacks.StackReader`.
    """

    path: Path
    key: str = ""
    channel: int | None = None
    """Which of two channels is meant; None where there are no channels."""

    def open(self) -> Reader:
        """Open the array; see :func:`instaseg.io.arrays.open_array`."""
        stack = self.path.is_dir() and not self.key
        reader: Reader = StackReader(self.path) if stack else open_array(self.path, self.key)
        return reader if self.channel is None else _OneOfTwo(reader, self)

    def __str__(self) -> str:
        return f"{self.path}: {self.key}" if self.key else str(self.path)


@dataclass(frozen=True)
class Sample:
    """One image or volume with what belongs to it.

    Parameters
    ----------
    name : str
        Unique in its data set; names result files.
    raw : Source
        The image.
    labels, mask, classes : Source, optional
        Ground truth, where it is complete, and the class of every voxel's instance.
    resolution : tuple of float
        Physical size of a voxel per spatial axis; its length is the number of spatial axes.
    units : tuple of str
        Units of `resolution`, for example ``("um", "um")``.
    channels : int
        Channels of the image.
    truth : {"labels", "instances", "points"}
        What `labels` holds: one label per voxel, one channel per instance, not 0 inside, or points.
    size : tuple of int, optional
        Extent in voxels to which all arrays are resampled as they are read; left out, they come as
        they are stored.
    kind : str, optional
        Type of the image, from its attribute ``type``; parameters may depend on it.
    background : {"zero", "zero_or_ones"}
        Which labels are background: 0, or also the greatest one of the type, see
        :class:`instaseg.io.cremi.PaintedClefts`; it is read as 0.
    """

    name: str
    raw: Source
    labels: Source | None
    mask: Source | None
    resolution: tuple[float, ...]
    units: tuple[str, ...]
    channels: int = 1
    truth: Truth = "labels"
    size: tuple[int, ...] | None = None
    kind: str | None = None
    classes: Source | None = None
    background: Literal["zero", "zero_or_ones"] = "zero"

    def resized(self, size: tuple[int, ...] | None) -> Sample:
        """Return the same sample at another size; None for the one it is stored in."""
        return replace(self, size=size)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.resolution)

    def open_raw(self) -> Reader:
        """Open the image as ``(c, [z,] y, x)``, wherever its channel axis lies on disk.

        Raises
        ------
        DataError
            If it is missing or damaged, or has other axes or channels than the configuration says.
        """
        raw = _ChannelsFirst(self.raw.open(), self)
        return raw if self.size is None else ResampledReader(raw, self.size, "linear")

    def open_labels(self) -> Reader | None:
        """Open the ground truth; None where the sample has none.

        Returns
        -------
        Reader or None
            Labels ``([z,] y, x)``, or, where `truth` says so, instances ``(n, [z,] y, x)``.

        Raises
        ------
        DataError
            If it is missing or damaged, or has other axes.
        """
        if self.labels is None:
            return None
        if self.truth == "points":
            raise ValueError(f"sample {self.name} has points in place of labels")
        if self.truth == "instances":
            return self._at_size(_InstanceChannels(self.labels, self))
        labels: Reader = _Spatial(self.labels, self)
        if self.background == "zero_or_ones":
            labels = cremi.PaintedClefts(labels)
        return self._at_size(labels)

    def open_mask(self) -> Reader | None:
        """Open the mask of complete labels as ``([z,] y, x)``; None where there is none."""
        return None if self.mask is None else self._at_size(_Spatial(self.mask, self))

    def open_classes(self) -> Reader | None:
        """Open the classes of instances as ``([z,] y, x)``, 0 where none is known; None for none.

        Raises
        ------
        DataError
            If they are missing or damaged, or have other axes.
        """
        return None if self.classes is None else self._at_size(_Spatial(self.classes, self))

    def _at_size(self, labels: Reader) -> Reader:
        return labels if self.size is None else ResampledReader(labels, self.size, "nearest")

    def read_raw(self) -> NDArray[Any]:
        """Read the whole image as ``(c, [z,] y, x)``, in the type it is stored in."""
        return read_whole(self.open_raw())

    def read_labels(self) -> NDArray[Any] | None:
        """Read the whole ground truth, see :meth:`open_labels`; None where there is none."""
        reader = self.open_labels()
        return None if reader is None else read_whole(reader)

    def read_points(self) -> Points:
        """Read the points of a sample whose `truth` is points; see :mod:`instaseg.io.points`.

        Raises
        ------
        DataError
            If they are missing or damaged, or no numbers.
        """
        if self.labels is None or self.truth != "points":
            raise ValueError(f"sample {self.name} has no points")
        if self.labels.key == cremi.ANNOTATIONS:
            return cremi.read_sites(self.labels.path, self.raw.key)
        table = read_whole(self.labels.open())
        if table.dtype.kind not in "iuf":
            raise DataError(
                f"{self.labels}: points are of type {table.dtype}; expected numbers. Write them"
                " again, for example with astype('float64')"
            )
        return table.astype(np.float64)

    def read_mask(self) -> NDArray[Any] | None:
        """Read the whole mask as ``([z,] y, x)``; None where the sample has none."""
        reader = self.open_mask()
        return None if reader is None else read_whole(reader)

    def identity(self) -> str:
        """Return a digest that changes when one of the sample's files does (size or time)."""
        digest = hashlib.sha256()
        for source in (self.raw, self.labels, self.mask, self.classes):
            if source is not None:
                for line in _file_states(source):
                    digest.update(line.encode())
        return digest.hexdigest()[:16]


def read_whole(reader: Reader) -> NDArray[Any]:
    """Read all of an array."""
    return reader[tuple(slice(0, n) for n in reader.shape)]


def _file_states(source: Source) -> Iterable[str]:
    """Yield path, size and time of change of each file of an array."""
    place = source.path
    if place.is_dir():
        place = place / source.key
    files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
    for file in files:
        state = file.stat() if file.exists() else None
        size, time = (state.st_size, state.st_mtime_ns) if state else (-1, -1)
        yield f"{source.key}|{file.absolute()}|{size}|{time}\n"


class _ChannelsFirst:
    """An image on disk presented as ``(c, [z,] y, x)``."""

    def __init__(self, reader: Reader, sample: Sample) -> None:
        self._reader = reader
        self._axis = _channel_axis(reader, sample)
        space = _without(reader.shape, self._axis)
        self.shape: tuple[int, ...] = (sample.channels, *space)
        self.dtype: np.dtype[Any] = reader.dtype
        self.attributes: Mapping[str, Any] = reader.attributes
        chunks = reader.chunks
        self.chunks: tuple[int, ...] | None = None
        if chunks is not None:
            channels = 1 if self._axis is None else chunks[self._axis]
            self.chunks = (channels, *_without(chunks, self._axis))

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        if self._axis is None:
            image: NDArray[Any] = self._reader[index[1:]][np.newaxis]
            return image[index[:1]]
        space = index[1:]
        stored = (*space[: self._axis], index[0], *space[self._axis :])
        block: NDArray[Any] = np.moveaxis(self._reader[stored], self._axis, 0)
        return block


class _OneOfTwo:
    """One of the two channels of an array on disk, along whichever axis they are."""

    def __init__(self, reader: Reader, source: Source) -> None:
        assert source.channel is not None
        shape = reader.shape
        usual = (0, len(shape) - 1, 1) if len(shape) > 2 else ()
        axes = [axis for axis in _named_channels(reader) or usual if shape[axis] == 2]
        if not axes:
            raise DataError(
                f"{source.path} has shape {shape}; expected two channels, labels and classes"
                ' (data.label_channels = "labels_and_classes")'
            )
        self._reader = reader
        self._axis, self._channel = axes[0], slice(source.channel, source.channel + 1)
        self.shape: tuple[int, ...] = _without(shape, self._axis)
        self.dtype: np.dtype[Any] = reader.dtype
        self.attributes: Mapping[str, Any] = reader.attributes
        chunks = reader.chunks
        self.chunks: tuple[int, ...] | None = (
            None if chunks is None else _without(chunks, self._axis)
        )

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        stored = (*index[: self._axis], self._channel, *index[self._axis :])
        part: NDArray[Any] = self._reader[stored].squeeze(self._axis)
        return part


class _Spatial:
    """Labels or a mask on disk presented as ``([z,] y, x)``."""

    def __init__(self, source: Source, sample: Sample) -> None:
        self._reader = source.open()
        shape = self._reader.shape
        # A leading axis of length one is a z axis (2-D data kept as volume) or a channel axis.
        self._lead = 1 if len(shape) == sample.ndim + 1 and shape[0] == 1 else 0
        self.shape: tuple[int, ...] = shape[self._lead :]
        if len(self.shape) != sample.ndim:
            raise DataError(
                f"sample {sample.name}: {source} has shape {shape}; expected {sample.ndim} axes"
                f" (data.ndim = {sample.ndim}), one label per voxel. {_labels_advice(shape)}"
            )
        self.dtype: np.dtype[Any] = self._reader.dtype
        self.attributes: Mapping[str, Any] = self._reader.attributes
        chunks = self._reader.chunks
        self.chunks: tuple[int, ...] | None = None if chunks is None else chunks[self._lead :]

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        if self._lead:
            block: NDArray[Any] = self._reader[(slice(0, 1), *index)][0]
            return block
        return self._reader[index]


class _InstanceChannels:
    """Overlapping instances on disk presented as ``(n, [z,] y, x)``."""

    def __init__(self, source: Source, sample: Sample) -> None:
        self._reader = source.open()
        shape = self._reader.shape
        # 2-D data kept as volumes: a z axis of length one after the channels.
        self._flat = len(shape) == sample.ndim + 2 and shape[1] == 1
        self.shape: tuple[int, ...] = self._keep(shape)
        if len(self.shape) != sample.ndim + 1:
            space = "z, y, x" if sample.ndim == 3 else "y, x"
            raise DataError(
                f"sample {sample.name}: {source} has shape {shape}; expected (n, {space}), one"
                f" channel per instance (data.ndim = {sample.ndim}). Set data.ndim, or name labels"
                " without channels with data.gt_key"
            )
        self.dtype: np.dtype[Any] = self._reader.dtype
        self.attributes: Mapping[str, Any] = self._reader.attributes
        chunks = self._reader.chunks
        self.chunks: tuple[int, ...] | None = None if chunks is None else self._keep(chunks)

    def _keep(self, values: tuple[int, ...]) -> tuple[int, ...]:
        """Return one value per axis that is presented."""
        return (*values[:1], *values[2:]) if self._flat else values

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        if self._flat:
            block: NDArray[Any] = self._reader[(index[0], slice(0, 1), *index[1:])][:, 0]
            return block
        return self._reader[index]


def _labels_advice(shape: tuple[int, ...]) -> str:
    """Return what to do about labels with a wrong number of axes."""
    if shape[-1] in (3, 4):
        return "It looks like a colour picture: export the labels as one integer per voxel"
    return "Set data.ndim, or write the labels again"


def _without(values: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    """Return `values` without the one at `axis`."""
    return values if axis is None else values[:axis] + values[axis + 1 :]


def _channel_axis(reader: Reader, sample: Sample) -> int | None:
    """Return which axis of an image holds its channels, None where it has no such axis.

    The attribute ``axis_names`` decides where there is one; else the first axis, then the last,
    if it has as many elements as there are channels.
    """
    shape, ndim, channels = reader.shape, sample.ndim, sample.channels
    if len(shape) == ndim and channels == 1:
        return None
    if len(shape) == ndim + 1:
        for axis in _named_channels(reader) or (0, ndim):
            if shape[axis] == channels:
                return axis
    raise DataError(
        f"sample {sample.name}: {sample.raw} has shape {shape}; expected"
        f" {_expected_axes(ndim, channels)}. {_channels_advice(shape, ndim, channels)}"
    )


def _named_channels(reader: Reader) -> list[int]:
    """Return the axis that an array's attributes call that of channels, in a list; else none."""
    names = list(reader.attributes.get("axis_names", ()))
    return [names.index("c")] if len(names) == len(reader.shape) and "c" in names else []


def _expected_axes(ndim: int, channels: int) -> str:
    """Return the layout of an image in words."""
    space = "z, y, x" if ndim == 3 else "y, x"
    layout = f"({space})" if channels == 1 else f"({channels}, {space}) or ({space}, {channels})"
    return f"{layout} because data.ndim = {ndim} and data.num_channels = {channels}"


def _channels_advice(shape: tuple[int, ...], ndim: int, channels: int) -> str:
    """Return what to do about an image whose axes do not fit."""
    found = 0 if not shape else shape[-1] if shape[-1] in (3, 4) else shape[0]
    if len(shape) == ndim + 1 and found <= 16:
        colour = {3: " (RGB)", 4: " (RGB and transparency)"}.get(found, "")
        if channels == 1:
            return (
                f"It has {found} channels{colour}: set data.num_channels = {found},"
                " or convert the images to grey"
            )
        return f"It has {found} channels{colour}: set data.num_channels = {found}, or convert it"
    if len(shape) == ndim and channels > 1:
        return "It has no channel axis: set data.num_channels = 1"
    other = {3: 2, 2: 3}[ndim]
    return f"Set data.ndim = {other} if that fits, or convert the images"


def find_samples(
    folder: Path,
    settings: DataSettings,
    *,
    names: Sequence[str] = (),
    truth: Wanted = "labels",
) -> list[Sample]:
    """Return the samples of a data set, sorted by name; nothing but names and metadata is read.

    Parameters
    ----------
    folder : Path
        The data set, or one ``.zarr`` sample.
    settings : DataSettings
        Keys, format, axes.
    names : sequence of str
        Samples to keep; empty keeps all.
    truth : {"labels", "points", "clefts"}
        What the ground truth has to be; labels may be instance channels. Of clefts the background
        may be painted as CREMI does.

    Returns
    -------
    list of Sample
        At least one.

    Raises
    ------
    DataError
        If the folder is missing or empty, images and labels cannot be paired, two samples have one
        name, or a name in `names` is unknown.
    """
    if not folder.is_dir() and folder.suffix.lower() not in HDF_SUFFIXES:
        found = "a file" if folder.exists() else "nothing"
        raise DataError(f"{folder}: expected a folder of images, found {found}. Check the path")
    samples = sorted(_discover(folder, settings, truth), key=lambda sample: sample.name)
    if not samples:
        raise DataError(f"{folder}: no images found; {_searched(settings)}{_folders_in(folder)}")
    _refuse_twins(folder, samples)
    if truth == "clefts":
        samples = [replace(sample, background="zero_or_ones") for sample in samples]
    return _choose(folder, samples, names) if names else samples


def _searched(settings: DataSettings) -> str:
    """Return what a folder may hold, in words."""
    layouts = {
        "zarr": "*.zarr",
        "hdf": "*.h5, *.hdf, *.hdf5",
        "tiff": (
            "*.tif, *.tiff or *.png in x/ and y/, in images/ and masks/, in raw/ and label/, or"
            " directly in it"
        ),
    }
    formats = layouts if settings.input_format == "auto" else [settings.input_format]
    searched = "; ".join(layouts[f] for f in formats)
    return f"expected {searched} (data.input_format = {settings.input_format!r})"


def _folders_in(folder: Path) -> str:
    """Return a hint at the folders in a folder that has no images of its own."""
    names = [p.name for p in visible_files(folder) if p.is_dir()] if folder.is_dir() else []
    return f". It has the folders {', '.join(names[:10])}: name one of them?" if names else ""


def _discover(folder: Path, settings: DataSettings, truth: Wanted) -> list[Sample]:
    """Return the samples of the first layout that has any."""
    wanted = settings.input_format
    if wanted in ("auto", "zarr", "hdf"):
        suffixes = {"zarr": ZARR_SUFFIXES, "hdf": HDF_SUFFIXES}.get(
            wanted, ZARR_SUFFIXES + HDF_SUFFIXES
        )
        own = [folder] if folder.suffix.lower() in suffixes else visible_files(folder)
        containers = [p for p in own if p.suffix.lower() in suffixes]
        if containers and settings.stack == "z":
            raise DataError(
                f"{folder}: expected image files, which data.stack = 'z' makes volumes of, found"
                f" {containers[0].name}; set data.stack = 'none'"
            )
        if containers:
            return [_container_sample(path, settings, truth) for path in containers]
    if wanted in ("auto", "tiff"):
        samples = _image_samples(folder, settings)
        if truth == "points":  # image files have none beside them
            return [replace(sample, labels=None, truth="points") for sample in samples]
        return samples
    return []


def _container_sample(path: Path, settings: DataSettings, wanted: Wanted) -> Sample:
    """Return the sample of a zarr folder or HDF5 file; missing arrays show when opened."""
    raw_key = _stored_key(path, settings.raw_key)
    attributes = array_attributes(path, raw_key) if has_array(path, raw_key) else {}
    labels, truth = (
        _container_points(path, settings)
        if wanted == "points"
        else _container_truth(path, settings)
    )
    mask, classes = settings.mask_key, settings.class_key
    return Sample(
        name=path.stem.removesuffix(".ome"),
        raw=Source(path, raw_key),
        labels=labels,
        mask=Source(path, mask) if mask and has_array(path, mask) else None,
        classes=Source(path, classes) if has_array(path, classes) else None,
        resolution=_resolution(attributes, settings, f"{path}: {raw_key}"),
        units=_units(attributes, settings.ndim),
        channels=settings.num_channels,
        truth=truth,
        kind=None if attributes.get("type") is None else str(attributes["type"]),
    )


def _container_points(path: Path, settings: DataSettings) -> tuple[Source | None, Truth]:
    """Return the points of a zarr folder or HDF5 file, as our table or as CREMI's annotations."""
    if has_array(path, settings.points_key):
        return Source(path, settings.points_key), "points"
    return (Source(path, cremi.ANNOTATIONS) if cremi.has_annotations(path) else None), "points"


def _container_truth(path: Path, settings: DataSettings) -> tuple[Source | None, Truth]:
    """Return the ground truth of a zarr folder or HDF5 file: labels, else instance channels."""
    gt_key = _stored_key(path, settings.gt_key)
    if has_array(path, gt_key):
        return Source(path, gt_key), "labels"
    if has_array(path, settings.instances_key):
        return Source(path, settings.instances_key), "instances"
    return None, "labels"


def _stored_key(path: Path, key: str) -> str:
    """Return the array that a key means: in OME-Zarr, level 0 of an image or of its labels.

    A key of an image in a zarr folder means that image. Where nobody named a key, and the folder
    itself is an image, that image and its labels are meant.
    """
    if path.suffix.lower() not in ZARR_SUFFIXES or has_array(path, key):
        return key
    named = ome_zarr.level_key(path, key)
    if named is not None:
        return named
    usual = DataSettings.model_fields
    if key == usual["raw_key"].default:
        return ome_zarr.level_key(path, "") or key
    return (ome_zarr.label_key(path) if key == usual["gt_key"].default else None) or key


def _resolution(
    attributes: Mapping[str, Any], settings: DataSettings, array: str
) -> tuple[float, ...]:
    """Return the voxel size: as configured, as stored, else 1; of the last axes."""
    if settings.voxel_size is not None:
        return settings.voxel_size
    stored = attributes.get("resolution")
    try:
        values = () if stored is None else tuple(float(v) for v in np.ravel(stored))
    except (TypeError, ValueError):
        values = (math.nan,)
    enough = stored is None or len(values) >= settings.ndim
    if not enough or not all(0 < value < math.inf for value in values[-settings.ndim :]):
        raise DataError(
            f"{array}: attribute resolution: expected numbers above 0, one for each axis, found"
            f" {stored}; correct it, or set data.voxel_size"
        )
    return values[-settings.ndim :] or (1.0,) * settings.ndim


def _units(attributes: Mapping[str, Any], ndim: int) -> tuple[str, ...]:
    """Return the unit of each spatial axis, as stored, else ``voxel``."""
    stored = attributes.get("units")
    if isinstance(stored, str):
        return (stored,) * ndim
    values = () if stored is None else tuple(str(v) for v in stored)
    return values[-ndim:] if len(values) >= ndim else ("voxel",) * ndim


def _image_samples(folder: Path, settings: DataSettings) -> list[Sample]:
    """Return the samples of a folder of image files."""
    if settings.stack == "z":
        return _stack_samples(folder, settings)
    for image_name, label_name in FOLDER_PAIRS:
        if (folder / image_name).is_dir() or (folder / label_name).is_dir():
            pairs = pair_images(folder / image_name, folder / label_name)
            return [_image_sample(image, label, settings) for image, label in pairs]
    return [_image_sample(image, None, settings) for image in image_files(folder)]


def _stack_samples(folder: Path, settings: DataSettings) -> list[Sample]:
    """Return the volumes whose sections are the image files of a folder, or of folders in it."""
    pairs = [(folder / images, folder / labels) for images, labels in FOLDER_PAIRS]
    images, labels = next((pair for pair in pairs if pair[0].is_dir()), (folder, folder / "masks"))
    volumes = [path for path in visible_files(images) if path.is_dir()]
    if not volumes and not image_files(images):
        return []
    found = [(volume, labels / volume.name) for volume in volumes] or [(images, labels)]
    samples = []
    for sections, of_labels in found:
        pair_images(sections, of_labels)  # refuses sections without labels, and labels without
        label = of_labels if of_labels.is_dir() else None
        sample = _image_sample(sections, label, settings)
        samples.append(replace(sample, name=sections.name if volumes else folder.name))
    return samples


def _image_sample(image: Path, label: Path | None, settings: DataSettings) -> Sample:
    of_labels = of_classes = None
    if label is not None and settings.label_channels == "labels":
        of_labels = Source(label)
    elif label is not None:
        of_labels, of_classes = Source(label, channel=0), Source(label, channel=1)
    return Sample(
        name=image.stem,
        raw=Source(image),
        labels=of_labels,
        classes=of_classes,
        mask=None,
        resolution=_resolution({}, settings, str(image)),
        units=_units({}, settings.ndim),
        channels=settings.num_channels,
    )


def _refuse_twins(folder: Path, samples: list[Sample]) -> None:
    """Refuse two samples of one name: their results would overwrite each other."""
    for first, second in itertools.pairwise(samples):
        if first.name == second.name:
            raise DataError(
                f"{folder}: {first.raw.path.name} and {second.raw.path.name} are both sample"
                f" {first.name!r}; expected different names. Rename or remove one"
            )


def _choose(folder: Path, samples: list[Sample], names: Sequence[str]) -> list[Sample]:
    """Return the samples of the given names, in their sorted order."""
    there = [sample.name for sample in samples]
    for name in names:
        if name not in there:
            close = difflib.get_close_matches(name, there, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(there[:20])}"
            raise DataError(f"{folder}: no sample {name!r}; {hint}")
    return [sample for sample in samples if sample.name in set(names)]

"""TIFF and PNG files: one array each, stacks read page by page where the file allows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import tifffile
from numpy.typing import NDArray

from instaseg.errors import DataError

TIFF_SUFFIXES = (".tif", ".tiff")
# ImageJ's own layout is no BigTIFF; the rest is room for headers.
_MOST_IMAGEJ_BYTES = (1 << 32) - (1 << 26)
_COMPRESSION_LEVEL = 6
# Axis letters of tifffile that have a meaning for us; a sample axis ("S", RGB) is a channel axis.
_AXES = {"C": "c", "S": "c", "Z": "z", "Y": "y", "X": "x", "T": "t"}


def open_image(path: Path) -> TiffReader | PngReader:
    """Return a reader of an image file.

    Raises
    ------
    DataError
        If the file is no image, or truncated.
    """
    return TiffReader(path) if path.suffix.lower() in TIFF_SUFFIXES else PngReader(path)


def _broken(path: Path, error: Exception | str) -> DataError:
    """Return the error of a file that cannot be decoded."""
    return DataError(
        f"{path}: cannot be read as {path.suffix[1:].upper()} ({error}); the file is damaged,"
        " truncated or of another format. Copy or export it again"
    )


class _DecodedOnce:
    """What image files that are read whole share: pixels that are kept, but not sent anywhere.

    A reader that comes to another process takes them from what that process decoded last.
    """

    _path: Path
    _whole: NDArray[Any] | None

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs to open the file."""
        return {**self.__dict__, "_whole": None}

    def _pixels(self) -> NDArray[Any]:
        if self._whole is None:
            try:
                state = self._path.stat()
            except OSError as error:
                raise _broken(self._path, error) from error
            self._whole = _decoded(self._path, state.st_size, state.st_mtime_ns)
        return self._whole


@lru_cache(maxsize=2)  # an image and its labels
def _decoded(path: Path, size: int, changed: int) -> NDArray[Any]:
    """Return the pixels of a file in some state."""
    del size, changed
    return _read_tiff(path) if path.suffix.lower() in TIFF_SUFFIXES else _read_png(path)


class TiffReader(_DecodedOnce):
    """A TIFF file: its first series, as one array.

    A stack whose first axis runs over pages is read page by page; anything else is read whole
    when it is first indexed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._whole: NDArray[Any] | None = None
        try:
            with tifffile.TiffFile(path) as file:
                series = file.series[0]
                self.shape: tuple[int, ...] = tuple(series.shape)
                self.dtype: np.dtype[Any] = np.dtype(series.dtype)
                self.attributes: Mapping[str, Any] = _axis_names(series.axes)
                self._paged = len(self.shape) > 2 and len(series.pages) == self.shape[0]
                needed = max(_data_end(page) for page in series.pages)
        except Exception as error:
            # tifffile raises anything from struct.error to IndexError on damaged headers.
            raise _broken(path, error) from error
        self.chunks: tuple[int, ...] | None = (1, *self.shape[1:]) if self._paged else None
        size = path.stat().st_size
        if needed > size:
            raise _broken(path, f"{size} bytes, its header announces {needed}")

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        try:
            if self._paged and self._whole is None:
                return self._read_pages(index)
            return self._pixels()[index]
        except DataError:
            raise
        except Exception as error:
            raise _broken(self._path, error) from error

    def _read_pages(self, index: tuple[slice, ...]) -> NDArray[Any]:
        """Return the part of a stack that `index` names, reading only its pages."""
        pages = range(self.shape[0])[index[0]]
        if len(pages) == 0:
            return np.zeros((0, *self.shape[1:]), self.dtype)[(slice(None), *index[1:])]
        try:
            stack = tifffile.imread(self._path, key=pages, series=0)
        except ValueError:
            # No codec in tifffile: read once through Pillow and keep it.
            return self._pixels()[index]
        stack = stack.reshape(len(pages), *self.shape[1:])
        return np.asarray(stack[(slice(None), *index[1:])])


def _data_end(page: Any) -> int:
    """Return the position in the file after the last byte of a page's pixels."""
    ends = (o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False))
    return max(ends, default=0)


def _axis_names(axes: str) -> dict[str, Any]:
    """Return ``axis_names`` when every axis letter has a meaning, else nothing."""
    if not all(a in _AXES for a in axes):
        return {}
    return {"axis_names": [_AXES[a] for a in axes]}


def _read_tiff(path: Path) -> NDArray[Any]:
    """Read a whole TIFF; compressions that tifffile lacks a codec for go through Pillow."""
    try:
        return np.asarray(tifffile.imread(path, series=0))
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
    try:
        frames = list(imageio.imiter(path, plugin="pillow"))
    except Exception as error:
        raise DataError(
            f"{path}: its compression cannot be decoded here ({error}); install imagecodecs (pip"
            " install imagecodecs), or export the image without compression or with deflate"
        ) from error
    return frames[0] if len(frames) == 1 else np.stack(frames)


class PngReader(_DecodedOnce):
    """A PNG file, read whole when it is first indexed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._whole: NDArray[Any] | None = None
        self.chunks: tuple[int, ...] | None = None
        self.attributes: Mapping[str, Any] = {}
        try:
            properties = imageio.improps(path, plugin="pillow")
        except Exception as error:
            raise _broken(path, error) from error
        self.shape: tuple[int, ...] = tuple(properties.shape)
        self.dtype: np.dtype[Any] = np.dtype(properties.dtype)

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        return self._pixels()[index]


def _read_png(path: Path) -> NDArray[Any]:
    """Read a whole PNG file."""
    try:
        values = np.asarray(imageio.imread(path, plugin="pillow"))
    except Exception as error:
        raise _broken(path, error) from error
    # of images of one bit, the bytes of True may be 255, which is not True everywhere
    return values != 0 if values.dtype == bool else values


def write_image(path: Path, array: NDArray[Any]) -> None:
    """Write a TIFF (deflate) or PNG file under a temporary name and rename it.

    Raises
    ------
    OSError
        If the file cannot be written.
    DataError
        If the format cannot hold the array: PNG takes uint8 and uint16.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")
    try:
        if path.suffix.lower() in TIFF_SUFFIXES:
            tifffile.imwrite(
                partial,
                array,
                photometric="minisblack",
                compression="zlib",
                compressionargs={"level": 9},
            )
        elif array.dtype in (np.uint8, np.uint16):
            imageio.imwrite(partial, array, plugin="pillow")
        else:
            raise DataError(f"{path}: PNG holds uint8 or uint16; got {array.dtype}. Write a TIFF")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@dataclass(frozen=True)
class StackLayout:
    """What a stack of pages is, for :func:`write_stack`.

    Parameters
    ----------
    shape : tuple of int
        Extent per axis; the last two are the pages'.
    dtype : dtype
        uint8, uint16, uint32 or float32.
    axes : str
        One letter per axis, in the order ``ZCYX``; ``Z`` and ``C`` may be missing.
    resolution : tuple of float
        Size of a voxel per spatial axis.
    unit : str
        Unit of `resolution`, for example ``um``.
    note : str
        Kept in the file; :func:`stack_note` reads it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: str
    resolution: tuple[float, ...]
    unit: str
    note: str


def write_stack(path: Path, pages: Iterable[NDArray[Any]], layout: StackLayout) -> None:
    """Write a TIFF that ImageJ shows as a stack, page by page, compressed by zlib.

    It has ImageJ's own metadata where that can hold it: integers of at most 16 bits and less than
    4 GiB; else those of OME (as BigTIFF from 4 GiB on), which Fiji and others read.

    Parameters
    ----------
    path : Path
        The file; it appears when it is complete. Its folder is made.
    pages : iterable of ndarray, (y, x)
        In the order of the leading axes; of the layout's dtype.
    layout : StackLayout
        What they are.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    size = int(np.prod(layout.shape)) * layout.dtype.itemsize
    own = layout.dtype.itemsize <= 2 and size < _MOST_IMAGEJ_BYTES
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")
    try:
        tifffile.imwrite(
            partial,
            iter(pages),
            shape=layout.shape,
            dtype=layout.dtype,
            imagej=own,
            ome=not own,
            bigtiff=size >= _MOST_IMAGEJ_BYTES,
            photometric="minisblack",
            compression="zlib",
            compressionargs={"level": _COMPRESSION_LEVEL},
            resolution=(1 / layout.resolution[-1], 1 / layout.resolution[-2]),
            metadata=_imagej_metadata(layout) if own else _ome_metadata(layout),
            software=layout.note,
        )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _imagej_metadata(layout: StackLayout) -> dict[str, Any]:
    metadata = {"axes": layout.axes, "unit": layout.unit, "mode": "grayscale"}
    if len(layout.resolution) == 3:
        metadata["spacing"] = layout.resolution[0]  # type: ignore[assignment]
    return metadata


def _ome_metadata(layout: StackLayout) -> dict[str, Any]:
    unit = {"um": "µm", "micron": "µm", "voxel": "pixel"}.get(layout.unit, layout.unit)
    metadata: dict[str, Any] = {"axes": layout.axes}
    for axis, size in zip("XYZ", reversed(layout.resolution), strict=False):
        metadata[f"PhysicalSize{axis}"] = size
        metadata[f"PhysicalSize{axis}Unit"] = unit
    return metadata


def stack_note(path: Path) -> str | None:
    """Return the note :func:`write_stack` kept in a file; None where there is none or no file."""
    try:
        with tifffile.TiffFile(path) as file:
            tag = file.pages.first.tags.get("Software")
    except (OSError, tifffile.TiffFileError):
        return None
    return None if tag is None else str(tag.value)

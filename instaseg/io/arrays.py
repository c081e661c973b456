"""One way to read and one to write arrays, whatever the file format.

A file or folder is told apart by its suffix: ``.zarr``; ``.h5``, ``.hdf``, ``.hdf5``; ``.tif``,
``.tiff``; ``.png``. What is inside a zarr folder or an HDF5 file is named by a *key*, such as
``volumes/raw``; an image file holds one array and its key is ignored. Arrays that are levels of an
image in OME-Zarr come with its axes and voxel sizes.

Writing is whole or not at all: an array is written as ``<key>.partial`` beside its place and
renamed when complete, an image file under a temporary name. Arrays that take long to make keep what
is finished of them over an interruption (:func:`resumed_arrays`).
"""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from instaseg.errors import DataError
from instaseg.io import hdf_files, image_files, ome_zarr, zarr_folders
from instaseg.io.text import write_text

ZARR_SUFFIXES = (".zarr",)
HDF_SUFFIXES = (".h5", ".hdf", ".hdf5")
IMAGE_SUFFIXES = (".tif", ".tiff", ".png")
NO_ATTRIBUTES: Mapping[str, Any] = MappingProxyType({})
_JOURNAL = "finished_parts.partial"


class ArraySource(Protocol):
    """An array in memory or on disk; indexing reads that part."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent per axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        """Return the part named by one slice per axis."""


class Reader(ArraySource, Protocol):
    """An array on disk."""

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Shape that is read at once, where the format has one."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Metadata stored with the array."""


def _suffix(path: Path) -> str:
    """Return the lower-case suffix of a format that is known, else raise."""
    suffix = path.suffix.lower()
    if suffix not in ZARR_SUFFIXES + HDF_SUFFIXES + IMAGE_SUFFIXES:
        known = ", ".join(ZARR_SUFFIXES + HDF_SUFFIXES + IMAGE_SUFFIXES)
        raise DataError(
            f"{path}: expected a file or folder ending in {known}; found {suffix or 'no suffix'!r}."
            " Rename or convert it"
        )
    return suffix


def list_arrays(path: Path) -> list[str]:
    """Return the keys of the arrays in a zarr folder or an HDF5 file, sorted.

    Raises
    ------
    DataError
        If the file is missing, broken, or of no known format.
    """
    suffix = _suffix(path)
    if not path.exists():
        raise DataError(f"{path}: not found; check the path")
    if suffix in ZARR_SUFFIXES:
        return zarr_folders.list_arrays(path)
    if suffix in HDF_SUFFIXES:
        return hdf_files.list_arrays(path)
    return [""]


def has_array(path: Path, key: str) -> bool:
    """Return whether `path` exists and holds a finished array under `key`."""
    if not path.exists():
        return False
    suffix = _suffix(path)
    if suffix in ZARR_SUFFIXES:
        return zarr_folders.has_array(path, key)
    if suffix in HDF_SUFFIXES:
        return key.strip("/") in hdf_files.list_arrays(path)
    return True


def open_array(path: Path, key: str) -> Reader:
    """Open an array for reading; values are read when it is indexed.

    Parameters
    ----------
    path : Path
        Zarr folder, HDF5 file, TIFF or PNG file.
    key : str
        Name of the array inside, such as ``volumes/raw``; ignored for TIFF and PNG.

    Returns
    -------
    Reader
        With `shape`, `dtype`, `chunks` and `attributes`; safe to use from several processes that
        each open their own.

    Raises
    ------
    DataError
        If the file is missing, truncated or of no known format, or has no such array; also later,
        when a broken part is read.
    """
    suffix = _suffix(path)
    if not path.exists():
        raise DataError(f"{path}: not found; check the path")
    if suffix in IMAGE_SUFFIXES:
        return image_files.open_image(path)
    if not has_array(path, key):
        raise DataError(missing_key(path, key))
    if suffix in ZARR_SUFFIXES:
        return ome_zarr.open_level(path, key) or zarr_folders.ZarrReader(path, key)
    return hdf_files.HdfReader(path, key)


def missing_key(path: Path, key: str) -> str:
    """Return the message for an array that `path` does not have."""
    there = list_arrays(path)
    if not there:
        return f"{path}: no array {key!r}; found no arrays at all. Write it again"
    close = difflib.get_close_matches(key, there, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "Set the key to one of them"
    return f"{path}: no array {key!r}; found {', '.join(map(repr, there))}. {hint}"


def written_at(path: Path, key: str) -> int:
    """Return when an array of a zarr folder was last written, in nanoseconds.

    Raises
    ------
    DataError
        If there is none.
    """
    if not has_array(path, key):
        raise DataError(missing_key(path, key))
    return (path / key).stat().st_mtime_ns


def array_attributes(path: Path, key: str) -> dict[str, Any]:
    """Return the metadata stored with an array; see :func:`open_array` for errors."""
    return dict(open_array(path, key).attributes)


class ArrayWriter:
    """An array that is being written; assign to parts of it.

    Parameters
    ----------
    target : zarr array
        What is written to.
    path : Path
        Its zarr folder, for messages.
    key : str
        Its final name, for messages.
    """

    def __init__(self, target: Any, path: Path, key: str) -> None:
        self._target = target
        self._path = path
        self._key = key
        self.shape: tuple[int, ...] = tuple(target.shape)
        self.dtype: np.dtype[Any] = np.dtype(target.dtype)

    def __setitem__(self, index: tuple[slice, ...], values: NDArray[Any]) -> None:
        with disk_errors(self._path, self._key):
            self._target[index] = values


@contextmanager
def new_array(
    path: Path,
    key: str,
    *,
    shape: Sequence[int],
    dtype: np.dtype[Any] | type[Any] | str,
    chunks: Sequence[int] | None = None,
    attributes: Mapping[str, Any] = NO_ATTRIBUTES,
) -> Iterator[ArrayWriter]:
    """Write an array part by part; it appears under `key` when the block ends without an error.

    Parameters
    ----------
    path : Path
        Zarr folder, made if it is not there.
    key : str
        Name of the array; an older array of that name is replaced at the end.
    shape, chunks : sequence of int
        Extent of the array and of its chunks; chunks default to about a million values. Write
        whole chunks: parts of one chunk must not be written by two threads at the same time.
    dtype : dtype
        Type of the values; compressed with zstd.
    attributes : mapping
        Metadata, stored before the array appears.

    Yields
    ------
    ArrayWriter
        Assign to it: ``writer[box.slices] = values``.

    Raises
    ------
    DataError
        If the disk is full or the folder cannot be written; nothing is left behind.
    """
    if _suffix(path) not in ZARR_SUFFIXES:
        raise DataError(f"{path}: arrays are written to folders ending in .zarr; rename it")
    partial = f"{key}.partial"
    zarr_folders.remove(path, partial)
    try:
        with disk_errors(path, key):
            plan = ArrayPlan(
                key, tuple(shape), np.dtype(dtype), tuple(chunks) if chunks else None, attributes
            )
            target = _create(path, partial, plan)
        yield ArrayWriter(target, path, key)
        with disk_errors(path, key):
            zarr_folders.rename(path, partial, key)
    except BaseException:
        zarr_folders.remove(path, partial)
        raise


class ScratchArray(ArrayWriter):
    """An array that is written and read back part by part."""

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape that is read at once."""
        return tuple(self._target.chunks)

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        return np.asarray(self._target[index])


@contextmanager
def scratch_zarr(path: Path) -> Iterator[Path]:
    """Give a zarr folder that is deleted with all its arrays when the block ends.

    One that a killed run left is deleted before.
    """
    shutil.rmtree(path, ignore_errors=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def scratch_array(
    path: Path, key: str, *, shape: Sequence[int], dtype: np.dtype[Any]
) -> Iterator[ScratchArray]:
    """Give an array of zeros on disk that is deleted when the block ends.

    Parameters
    ----------
    path : Path
        Zarr folder, made if it is not there.
    key : str
        Name of the array, which no other has; it is never listed.
    shape : sequence of int
        Extent of the array.
    dtype : dtype
        Type of the values.

    Raises
    ------
    DataError
        If the disk is full or the folder cannot be written.
    """
    partial = f"{key}.partial"
    zarr_folders.remove(path, partial)
    try:
        with disk_errors(path, key):
            target = _create(path, partial, ArrayPlan(key, tuple(shape), dtype, None))
        yield ScratchArray(target, path, key)
    finally:
        zarr_folders.remove(path, partial)


@dataclass(frozen=True)
class ArrayPlan:
    """An array that is to be written; see :func:`new_array`."""

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...] | None
    attributes: Mapping[str, Any] = field(default_factory=dict)


def _create(path: Path, key: str, plan: ArrayPlan) -> Any:
    """Create an array of zeros as planned, under another key."""
    target = zarr_folders.create(
        path,
        key,
        shape=tuple(int(n) for n in plan.shape),
        dtype=np.dtype(plan.dtype),
        chunks=tuple(int(n) for n in plan.chunks or default_chunks(plan.shape)),
    )
    target.attrs.update(plain(dict(plan.attributes)))
    return target


class Journal:
    """Numbers of the parts of arrays that are written, in a text file: one line for each call.

    Parameters
    ----------
    file : Path
        Its first line says what the arrays are made from.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        text = file.read_text(encoding="utf-8")
        # A line that was cut off does not count, and the next one must not go on with it.
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            write_text(file, whole)
        self._numbers = {int(number) for line in whole.split("\n")[1:] for number in line.split()}

    def __contains__(self, number: int) -> bool:
        return number in self._numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def update(self, numbers: Iterable[int]) -> None:
        """Record that parts are written; call it after they are."""
        added = list(numbers)
        line = " ".join(map(str, added))
        with disk_errors(self._file, ""), self._file.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
        self._numbers.update(added)


@contextmanager
def resumed_arrays(
    path: Path, plans: Sequence[ArrayPlan], made_from: str
) -> Iterator[tuple[list[ArrayWriter], Journal]]:
    """Write arrays part by part, going on where a run before was killed.

    The arrays appear together when the block ends without an error. Until then they are named
    ``<key>.partial``, and a file beside them, ``finished_parts.partial``, has the numbers of the
    parts that are written. What was begun from something else is made anew.

    Parameters
    ----------
    path : Path
        Zarr folder, made if it is not there.
    plans : sequence of ArrayPlan
        The arrays.
    made_from : str
        Fingerprint of all that the parts depend on, how they are cut and numbered included.

    Yields
    ------
    writers : list of ArrayWriter
        One for each plan.
    journal : Journal
        The parts that are there; add those that you write.

    Raises
    ------
    DataError
        If the disk is full or the folder cannot be written; finished parts stay.
    """
    journal_file = path / _JOURNAL
    partial = {plan.key: f"{plan.key}.partial" for plan in plans}
    # the parts of an array of another size would be others
    sizes = "; ".join(f"{plan.key} {plan.shape} {plan.dtype} {plan.chunks}" for plan in plans)
    made_from = f"{made_from} {sizes}"
    with disk_errors(path, "arrays"):
        if not _goes_on(path, plans, made_from):
            forget_parts(path)
            for plan in plans:
                zarr_folders.remove(path, partial[plan.key])
                _create(path, partial[plan.key], plan)
            write_text(journal_file, f"{made_from}\n")
        targets = [zarr_folders.open_for_writing(path, partial[plan.key]) for plan in plans]
        journal = Journal(journal_file)
    try:
        yield [ArrayWriter(t, path, p.key) for t, p in zip(targets, plans, strict=True)], journal
        with disk_errors(path, "arrays"):
            # Without the journal, arrays whose renaming is interrupted are made anew.
            forget_parts(path)
            for plan in plans:
                zarr_folders.rename(path, partial[plan.key], plan.key)
    except BaseException:
        if not len(journal):
            forget_parts(path)
            for plan in plans:
                zarr_folders.remove(path, partial[plan.key])
        raise


def forget_parts(path: Path) -> None:
    """Let :func:`resumed_arrays` begin anew with the arrays of a folder."""
    (path / _JOURNAL).unlink(missing_ok=True)


def _goes_on(path: Path, plans: Sequence[ArrayPlan], made_from: str) -> bool:
    """Return whether the arrays were begun from the same."""
    journal_file = path / _JOURNAL
    if not journal_file.is_file():
        return False
    lines = journal_file.read_text(encoding="utf-8", errors="replace").split("\n")
    if lines[0] != made_from or not all(part.isdigit() for n in lines[1:-1] for part in n.split()):
        return False
    return all(zarr_folders.has_array(path, f"{plan.key}.partial") for plan in plans)


def write_array(
    path: Path,
    key: str,
    array: NDArray[Any],
    *,
    attributes: Mapping[str, Any] = NO_ATTRIBUTES,
    chunks: Sequence[int] | None = None,
) -> None:
    """Write a whole array: to a zarr folder under `key`, or as a TIFF or PNG file.

    Attributes and chunks are only for zarr. An older array or file is replaced at the end.

    Raises
    ------
    DataError
        If the disk is full, the place cannot be written, or the format cannot hold the array.
    """
    if _suffix(path) in IMAGE_SUFFIXES:
        with disk_errors(path, key):
            image_files.write_image(path, array)
        return
    with new_array(
        path, key, shape=array.shape, dtype=array.dtype, chunks=chunks, attributes=attributes
    ) as writer:
        writer[tuple(slice(0, n) for n in array.shape)] = array


def delete_array(path: Path, key: str) -> None:
    """Delete an array of a zarr folder; one that is being written beside it stays.

    Raises
    ------
    DataError
        If there is no such array.
    """
    if not has_array(path, key):
        raise DataError(missing_key(path, key) if path.exists() else f"{path}: not found")
    zarr_folders.remove(path, key)


def stored_size(path: Path, key: str = "") -> int:
    """Return the bytes on disk of a file, a folder, or one array of a zarr folder; 0 if missing."""
    place = path / key if key else path
    if place.is_file():
        return place.stat().st_size
    return sum(file.stat().st_size for file in place.rglob("*") if file.is_file())


def default_chunks(shape: Sequence[int]) -> tuple[int, ...]:
    """Return chunks of at most 128 voxels per spatial axis in 3-D, 512 in 2-D, 1 per channel.

    The last two or three axes count as spatial: an array of four axes or more is a volume with
    channels; one of three is a volume.

    Examples
    --------
    >>> default_chunks((1024, 700)), default_chunks((49, 300, 300, 300))
    ((512, 512), (1, 128, 128, 128))
    """
    side = 512 if len(shape) == 2 else 128
    spatial = min(len(shape), 3)
    lead = len(shape) - spatial
    return (1,) * lead + tuple(max(1, min(n, side)) for n in shape[lead:])


@contextmanager
def disk_errors(path: Path, key: str) -> Iterator[None]:
    """Turn an error of the file system into a DataError with the free space."""
    try:
        yield
    except OSError as error:
        existing = next(p for p in (path, *path.absolute().parents) if p.exists())
        free = shutil.disk_usage(existing).free / 2**20
        raise DataError(
            f"{path}: cannot write {key or 'the file'}: {error.strerror or error}; {free:.0f} MB"
            " are free there. Free space or choose another folder, then run the same command again"
            " with -id"
        ) from error


def plain(value: Any) -> Any:
    """Return `value` with numpy values and tuples as plain Python ones, as JSON wants them."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def slabs(shape: Sequence[int], voxels: int = 2**24) -> Iterator[tuple[slice, ...]]:
    """Yield indices that cut an array along its first axis into slabs of about `voxels` voxels.

    Examples
    --------
    >>> [index[0] for index in slabs((5, 10), voxels=20)]
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    thickness = max(1, voxels // max(1, int(np.prod(shape[1:]))))
    rest = tuple(slice(0, n) for n in shape[1:])
    for begin in range(0, shape[0], thickness):
        yield (slice(begin, min(begin + thickness, shape[0])), *rest)

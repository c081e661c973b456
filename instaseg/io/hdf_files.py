"""HDF5 files, for reading. A file is open only while something is read from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from instaseg.errors import DataError


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading; a file that is no HDF5, or broken, raises DataError."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{path}: cannot be read as HDF5 ({error}); the file is damaged or of another format,"
            " write it again"
        ) from error


def list_arrays(path: Path) -> list[str]:
    """Return the names of all data sets, sorted."""
    names: list[str] = []

    def collect(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            names.append(name)

    with _open(path) as file:
        file.visititems(collect)
    return sorted(names)


def group_attributes(path: Path, key: str) -> dict[str, Any]:
    """Return the metadata stored with a group; none if there is no such group."""
    with _open(path) as file:
        return dict(file[key].attrs) if key in file else {}


class HdfReader:
    """A data set of an HDF5 file.

    Parameters
    ----------
    path : Path
        The file.
    key : str
        Name of the data set in it.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key
        with _open(path) as file:
            data = file[key]
            self.shape: tuple[int, ...] = tuple(data.shape)
            self.dtype: np.dtype[Any] = data.dtype
            self.chunks: tuple[int, ...] | None = data.chunks
            self.attributes: Mapping[str, Any] = dict(data.attrs)

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        with _open(self._path) as file:
            return np.asarray(file[self._key][index])

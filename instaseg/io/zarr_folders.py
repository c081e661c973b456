"""Zarr: the only module that calls it, in the subset that zarr 2.18 and 3 share.

Format 2 is written, which every version reads. Format 3 is read where zarr 3 is installed.
An array is a folder, so that it is renamed and deleted as one.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from numpy.typing import NDArray

from instaseg.errors import DataError

_BLOSC_HEADER = 16
_MAJOR = int(zarr.__version__.split(".")[0])


def _node_type(folder: Path) -> str | None:
    """Return "array", "group" or None from the metadata files of a folder (formats 2 and 3)."""
    if (folder / ".zarray").is_file():
        return "array"
    if (folder / "zarr.json").is_file():
        try:
            return str(json.loads((folder / "zarr.json").read_text()).get("node_type"))
        except (ValueError, AttributeError) as error:
            raise DataError(
                f"{folder / 'zarr.json'}: not valid JSON ({error}); the array is damaged,"
                " write it again"
            ) from error
    return "group" if (folder / ".zgroup").is_file() else None


def has_array(path: Path, key: str) -> bool:
    """Return whether the folder has an array under `key`."""
    return _node_type(path / key) == "array"


def list_arrays(path: Path) -> list[str]:
    """Return the keys of all finished arrays, sorted."""
    return sorted(_walk(path, ""))


def _walk(folder: Path, key: str) -> Iterator[str]:
    """Yield keys of arrays below `folder` without looking into the arrays' chunks."""
    if _node_type(folder) == "array":
        yield key
        return
    for child in folder.iterdir():
        if child.is_dir() and not child.name.endswith((".partial", ".replaced")):
            yield from _walk(child, f"{key}/{child.name}" if key else child.name)


class ZarrReader:
    """An array in a zarr folder.

    Parameters
    ----------
    path : Path
        The zarr folder.
    key : str
        Name of the array in it.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.name = f"{path}: {key}"
        """What messages call it."""
        self._folder = folder = path / key
        if _MAJOR < 3 and (folder / "zarr.json").is_file():
            raise DataError(
                f"{self.name} is zarr format 3; zarr {zarr.__version__} reads format 2. Install"
                " zarr 3 (Python 3.12 or later), or write it again in format 2"
            )
        try:
            self._array = zarr.open(str(folder), mode="r")
        except Exception as error:
            # Damaged metadata surfaces as anything from KeyError to a JSON error.
            raise DataError(
                f"{self.name}: metadata cannot be read ({_brief(error)}); the array is damaged,"
                " write it again"
            ) from error
        self.shape: tuple[int, ...] = tuple(self._array.shape)
        self.dtype: np.dtype[Any] = np.dtype(self._array.dtype)
        self.chunks: tuple[int, ...] | None = tuple(self._array.chunks)
        self._blosc_separator = _blosc_separator(folder)

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Metadata stored with the array."""
        try:
            return dict(self._array.attrs)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.name}: attributes cannot be read ({_brief(error)}); the array is damaged,"
                " write it again"
            ) from error

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        try:
            if self._blosc_separator:
                self._check_blosc(index)
            return np.asarray(self._array[index])
        except Exception as error:
            # Codecs raise whatever they like on a damaged chunk.
            where = ", ".join(f"{s.start or 0}:{'' if s.stop is None else s.stop}" for s in index)
            raise DataError(
                f"{self.name}[{where}] cannot be read ({_brief(error)}); a chunk is damaged, write"
                " the array again"
            ) from error

    def _check_blosc(self, index: tuple[slice, ...]) -> None:
        """Raise ValueError if a chunk that `index` touches is shorter than its header says.

        Blosc itself reads past the end of a truncated chunk.
        """
        axes = zip(index, self.shape, self.chunks or self.shape, strict=False)
        numbers = [
            range(s.indices(n)[0] // c, max(s.indices(n)[1] - 1, 0) // c + 1) for s, n, c in axes
        ]
        for chunk in itertools.product(*numbers):
            file = self._folder / self._blosc_separator.join(map(str, chunk))
            if not file.is_file():
                continue
            with file.open("rb") as opened:
                header = opened.read(_BLOSC_HEADER)
            size = file.stat().st_size
            announced = int.from_bytes(header[12:16], "little")
            if len(header) < _BLOSC_HEADER or announced != size:
                raise ValueError(f"chunk {file.name} has {size} bytes, expected {announced}")


def _blosc_separator(folder: Path) -> str:
    """Return what separates the numbers of a chunk's name if Blosc compressed it, else ""."""
    metadata = folder / ".zarray"
    if not metadata.is_file():
        return ""
    content = json.loads(metadata.read_text())
    if (content.get("compressor") or {}).get("id") != "blosc" or content.get("filters"):
        return ""
    return str(content.get("dimension_separator", "."))


def _brief(error: Exception) -> str:
    """Return type and first line of an error."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def create(
    path: Path,
    key: str,
    *,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunks: tuple[int, ...],
) -> Any:
    """Create an array of zeros in format 2, zstd-compressed, and the groups above it."""
    path.mkdir(parents=True, exist_ok=True)
    folder = path
    for part in ("", *key.split("/")[:-1]):
        folder = folder / part
        folder.mkdir(exist_ok=True)
        if _node_type(folder) is None:
            (folder / ".zgroup").write_text('{\n    "zarr_format": 2\n}')
    version = {"zarr_format": 2} if _MAJOR >= 3 else {"zarr_version": 2}
    return zarr.create(
        store=str(path / key),
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        # Not Blosc: it decodes a truncated chunk to garbage without complaint; the checksum also
        # finds flipped bits.
        compressor=numcodecs.Zstd(level=3, checksum=True),
        fill_value=0,
        overwrite=True,
        **version,
    )


def open_for_writing(path: Path, key: str) -> Any:
    """Return an array that is there, to change parts of it."""
    try:
        return zarr.open(str(path / key), mode="r+")
    except Exception as error:
        # Damaged metadata surfaces as anything from KeyError to a JSON error.
        raise DataError(
            f"{path}: {key} cannot be opened ({_brief(error)}); delete {path / key}, then run the"
            " same command again"
        ) from error


def rename(path: Path, key: str, new_key: str) -> None:
    """Rename an array, replacing one of the new name."""
    target = path / new_key
    replaced = path / f"{new_key}.replaced"
    shutil.rmtree(replaced, ignore_errors=True)
    if target.exists():
        target.rename(replaced)
    (path / key).rename(target)
    shutil.rmtree(replaced, ignore_errors=True)


def remove(path: Path, key: str) -> None:
    """Delete an array if it is there."""
    shutil.rmtree(path / key, ignore_errors=True)

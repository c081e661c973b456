"""Results of blocks on disk, so that a run that was killed goes on with the missing ones.

One folder per volume and computation::

      <folder>/
        made_from.txt              fingerprint of everything the results are made from
        <step>/00000042.npz        arrays of block 42 of a step, by name

A result is there whole or not at all: it is written under a hidden name and renamed. The files are
those of ``numpy.savez``: not compressed, with a checksum for every array, nothing pickled.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.errors import DataError
from instaseg.io.arrays import disk_errors
from instaseg.io.text import write_text

logger = logging.getLogger(__name__)

MADE_FROM = "made_from.txt"


@dataclass(frozen=True)
class BlockStore:
    """Arrays of blocks in a folder; any number of processes may use one at a time.

    Parameters
    ----------
    folder : Path
        Made by :func:`open_store`.
    """

    folder: Path

    def has(self, step: str, block: str | int) -> bool:
        """Return whether a block's result is there; one that was cut off counts as missing.

        Only the end of the file is read, so other damage shows when the arrays are read.
        """
        path = self.path(step, block)
        return path.is_file() and zipfile.is_zipfile(path)

    def write(self, step: str, block: str | int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write a block's result; an older one is replaced.

        Parameters
        ----------
        step : str
            What was computed: the name of a folder.
        block : str or int
            Which block: the name of a file, or a number that is padded with zeros.
        arrays : mapping of str to ndarray
            Numbers or booleans of any shape, also empty.

        Raises
        ------
        DataError
            If the disk is full or the folder cannot be written; nothing is left behind.
        """
        path = self.path(step, block)
        # A worker that was taken for lost may still write the same block as its successor.
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
        try:
            with disk_errors(path, ""):
                path.parent.mkdir(exist_ok=True)
                with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
                    for name, array in arrays.items():
                        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                            np.lib.format.write_array(
                                member, np.asanyarray(array), allow_pickle=False
                            )
                os.replace(partial, path)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise

    def read(
        self, step: str, block: str | int, names: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Return arrays of a block's result, by name.

        Parameters
        ----------
        step, block
            As for :meth:`write`.
        names : sequence of str, optional
            The arrays that are read; all by default.

        Raises
        ------
        DataError
            If there is no result, or it lacks an array, or it is damaged. A damaged file is
            deleted, so that the next run makes it again.
        """
        path = self.path(step, block)
        try:
            with zipfile.ZipFile(path) as archive:
                there = archive.namelist()
                if not all(member.endswith(".npy") for member in there):
                    raise zipfile.BadZipFile("a name in its list of contents")
                wanted = [member.removesuffix(".npy") for member in there]
                wanted = wanted if names is None else list(names)
                return {name: _read_array(archive, name) for name in wanted}
        except FileNotFoundError as error:
            raise DataError(
                f"{path}: no result of step {step} for block {block}; run the same command again"
            ) from error
        except KeyError as error:
            raise DataError(
                f"{path}: expected arrays {', '.join(names or ())}; {error.args[0]}. Delete"
                f" {self.folder}, then run the same command again"
            ) from error
        except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, RuntimeError) as error:
            raise self._damaged(path, error) from error
        except OSError as error:
            if error.errno == errno.EINVAL:  # the list of contents names a place before the file
                raise self._damaged(path, error) from error
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error

    def _damaged(self, path: Path, error: Exception) -> DataError:
        """Delete a damaged file; return what is to be said."""
        path.unlink(missing_ok=True)
        return DataError(
            f"{path}: damaged ({error}) and deleted; run the same command again, it makes this"
            " block anew"
        )

    def forget(self, step: str) -> None:
        """Delete the results of a step that nothing needs any more."""
        shutil.rmtree(self.folder / step, ignore_errors=True)

    def remove(self) -> None:
        """Delete all results and the folder."""
        self._empty()
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, step: str, block: str | int) -> Path:
        """Return the file of a block's result, whether it is there or not."""
        name = f"{block:08d}" if isinstance(block, int) else block
        return self.folder / step / f"{name}.npz"

    def _empty(self) -> None:
        """Delete the results of all steps; the fingerprint goes last, when none is left."""
        for step in self.folder.iterdir() if self.folder.is_dir() else ():
            if step.is_dir():
                shutil.rmtree(step, ignore_errors=True)


def _read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as member:
        array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
        # The checksum is compared at the end, so the end must be reached.
        if member.read(1):
            raise ValueError(f"array {name} is longer than its header says")
    return array


def open_store(folder: Path, made_from: str) -> BlockStore:
    """Return the store in a folder, with the results that are there from an earlier run.

    Only one process opens a store at a time; it hands it to its workers.

    Parameters
    ----------
    folder : Path
        Made if it is not there. Results made from something else are deleted, with a warning.
    made_from : str
        Fingerprint of everything the results depend on, the shape of the blocks included.

    Raises
    ------
    DataError
        If the folder holds something that is no store, or cannot be written.
    """
    store, marker = BlockStore(folder), folder / MADE_FROM
    with disk_errors(folder, "block results"):
        folder.mkdir(parents=True, exist_ok=True)
        found = marker.read_text(encoding="utf-8").strip() if marker.is_file() else None
        if found is None and any(not file.name.startswith(".") for file in folder.iterdir()):
            raise DataError(
                f"{folder}: expected a folder of block results with {MADE_FROM}; found other files."
                " Move it away, then run the same command again"
            )
        if found is not None and found != made_from:
            logger.warning(
                "%s: results of blocks were made from other data, parameters or block shapes;"
                " they are deleted and made again",
                folder,
            )
            store._empty()
        for left in folder.glob("*/.*.partial"):
            left.unlink(missing_ok=True)
        if found != made_from:
            write_text(marker, made_from + "\n")
    return store

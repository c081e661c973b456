"""Samples that are put together from several files, written as zarr: what ``prepare.py`` needs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.errors import ConfigError, DataError, InstasegError
from instaseg.io.arrays import IMAGE_SUFFIXES, has_array, open_array, write_array
from instaseg.io.convert import LABELS_KEY, MASK_KEY, RAW_KEY, Converted
from instaseg.io.points import POINTS_KEY
from instaseg.progress import progress

logger = logging.getLogger(__name__)

INSTANCES_KEY = "volumes/gt_instances"


@dataclass(frozen=True)
class Arrays:
    """What is written of a sample.

    Parameters
    ----------
    raw : (c, [z,] y, x)
        The image.
    arrays : mapping of str to array
        The others by key: ``volumes/gt_labels`` ``([z,] y, x)`` or ``volumes/gt_instances``
        ``(n, [z,] y, x)``, and ``volumes/mask`` ``([z,] y, x)``; other images ``([z,] y, x)``; and
        ``volumes/gt_points``, a table (see :mod:`instaseg.io.points`).
    resolution : tuple of float
        Size of a voxel per spatial axis.
    unit : str
        Unit of `resolution`.
    attributes : mapping
        More attributes of the image, such as its ``type``.
    """

    raw: NDArray[Any]
    arrays: Mapping[str, NDArray[Any]]
    resolution: tuple[float, ...]
    unit: str = "voxel"
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pending:
    """A sample that is to be written.

    Parameters
    ----------
    name : str
        Its name.
    keys : tuple of str
        Arrays it has when it is complete, beside the image.
    read : callable
        Returns its arrays; only called if the sample is not there yet.
    """

    name: str
    keys: tuple[str, ...]
    read: Callable[[], Arrays]


def write_pending(pending: Sequence[Pending], folder: Path) -> Converted:
    """Write samples as ``<folder>/<name>.zarr``; those that are there are left as they are.

    The ground truth is written last, so that a sample that was interrupted is written again.

    Parameters
    ----------
    pending : sequence of Pending
        The samples.
    folder : Path
        Made if it is not there.

    Returns
    -------
    Converted
        Counts.

    Raises
    ------
    DataError
        If a sample cannot be read or written; samples before it stay.
    """
    written = 0
    for sample in progress(pending, f"writing {folder}", total=len(pending)):
        path = folder / f"{sample.name}.zarr"
        if all(has_array(path, key) for key in (RAW_KEY, *sample.keys)):
            continue
        _write(sample.read(), path)
        written += 1
    skipped = len(pending) - written
    if skipped:
        logger.info("%s: %d samples were there already and are left as they are", folder, skipped)
    return Converted(written, skipped)


def _write(sample: Arrays, path: Path) -> None:
    """Write one sample, the ground truth last."""
    ndim = len(sample.resolution)
    space = ["z", "y", "x"][-ndim:]
    attributes = {
        "resolution": list(sample.resolution),
        "offset": [0.0] * ndim,
        "axis_names": space,
        "units": [sample.unit] * ndim,
    }
    own = {**attributes, **sample.attributes, "axis_names": ["c", *space]}
    write_array(path, RAW_KEY, sample.raw, attributes=own)
    for key in sorted(sample.arrays, key=_place):
        array = sample.arrays[key]
        if key == POINTS_KEY:
            write_array(path, key, array)
            continue
        names = ["n", *space] if key == INSTANCES_KEY else space
        write_array(path, key, array, attributes={**attributes, "axis_names": names})


def _place(key: str) -> int:
    """Return when an array is written: the ground truth of instances last."""
    last = (MASK_KEY, LABELS_KEY, INSTANCES_KEY)
    return last.index(key) if key in last else -1


def refuse_problems(problems: Sequence[str]) -> None:
    """Raise all that is wrong with a data set as one error, if anything is.

    Raises
    ------
    DataError
        With the first twenty problems.
    """
    if problems:
        shown = [f"  {problem}" for problem in problems[:20]]
        more = [f"  and {len(problems) - 20} more"] if len(problems) > 20 else []
        raise DataError("\n".join([f"{len(problems)} problems; nothing is written", *shown, *more]))


def need_folders(root: Path, names: Sequence[str]) -> None:
    """Refuse a download that lacks folders.

    Raises
    ------
    ConfigError
        With the names of those that are missing.
    """
    missing = [name for name in names if not (root / name).is_dir()]
    if missing:
        raise ConfigError(
            f"{root}: expected the folders {', '.join(f'{name}/' for name in names)}; missing"
            f" {', '.join(f'{name}/' for name in missing)}. Check --data"
        )


def numbered_images(folder: Path) -> dict[int, Path]:
    """Return the image files of a folder by the number that is their name; others are left out."""
    return {
        int(file.stem): file
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in IMAGE_SUFFIXES and file.stem.isdigit()
    }


def need_one_shape(sections: Sequence[Path]) -> None:
    """Refuse image files of sections that have not the shape of the first.

    Raises
    ------
    DataError
        With those that have another.
    """
    shape = open_array(sections[0], "").shape
    refuse_problems(
        [
            f"{file}: expected shape {shape} as all sections, found {found}; download it again"
            for file in sections
            if (found := open_array(file, "").shape) != shape
        ]
    )


def exit_code(work: Callable[[], None]) -> int:
    """Run a script's work; print its error in one line; return 0, 2 (wrong usage) or 1 (data)."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        work()
    except InstasegError as error:
        logger.error("error: %s", error)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


def inside(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return 1 where `array` is not 0, as ground truth with channels and masks are stored."""
    return np.asarray(array != 0, dtype=np.uint8)

"""Turn FlyLight neurons (FISBe) into samples for training.

FISBe v1.0 unpacked into one folder (completely/ and partly/, each with train/, val/ and test/)::

    python experiments/flylight/prepare.py --data fisbe --out samples
    python experiments/flylight/prepare.py --data fisbe --out samples --sets both

The second command adds the partly labelled volumes: to samples/train, and as samples/val_partly and
samples/test_partly. The mask of a partly labelled volume is 0 where nothing is labelled.

A single volume (a .zarr folder, a .zip of one, or a folder with one of these) becomes all three
parts, only to see whether everything runs::

    python experiments/flylight/prepare.py --data crop.zip --out samples

A sample that is there already is left as it is, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from instaseg.errors import ConfigError, DataError
from instaseg.io.arrays import has_array, list_arrays, open_array
from instaseg.io.convert import MASK_KEY, RAW_KEY
from instaseg.io.prepared import (
    INSTANCES_KEY,
    Arrays,
    Pending,
    exit_code,
    inside,
    refuse_problems,
    write_pending,
)
from instaseg.io.samples import read_whole

logger = logging.getLogger("prepare")

PARTS = ("train", "val", "test")
Sources = dict[str, list[tuple[Path, str]]]


def arguments(command_line: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with completely/ ...")
    parser.add_argument("--out", type=Path, required=True, help="folder the samples are written to")
    parser.add_argument(
        "--sets", choices=("completely", "both"), default="completely", help="what is labelled how"
    )
    parser.add_argument(
        "--resolution",
        type=float,
        nargs=3,
        default=(1.0, 1.0, 1.0),
        help="size of a voxel per axis, where the volumes do not say",
    )
    parser.add_argument("--unit", default="voxel", help="unit of --resolution")
    found = parser.parse_args(command_line)
    if min(found.resolution) <= 0:
        parser.error(f"--resolution must be positive, got {found.resolution}")
    return found


def fisbe(found: argparse.Namespace) -> Sources:
    """Return the volumes of each part of FISBe, and whether all or some neurons are labelled."""
    wanted = {part: [(f"completely/{part}", "all")] for part in PARTS}
    if found.sets == "both":
        wanted["train"].append(("partly/train", "some"))
        wanted |= {f"{part}_partly": [(f"partly/{part}", "some")] for part in ("val", "test")}
    folders = [folder for sources in wanted.values() for folder, _ in sources]
    empty = [folder for folder in folders if not list((found.data / folder).glob("*.zarr"))]
    if empty:
        raise ConfigError(
            f"{found.data}: expected volumes (.zarr) in {', '.join(folders)}; found none in"
            f" {', '.join(empty)}. Check --data, or unpack the rest of FISBe"
        )
    return {
        part: [
            (path, labelled)
            for folder, labelled in sources
            for path in sorted((found.data / folder).glob("*.zarr"))
        ]
        for part, sources in wanted.items()
    }


def single(found: argparse.Namespace, unpacked: Path) -> Sources:
    """Return one volume as the sample of all parts."""
    path = lone_volume(found.data)
    if found.sets == "both":
        raise ConfigError(
            f"--sets both: expected the folders completely/ and partly/ of FISBe in {found.data},"
            " found a single volume; leave --sets out"
        )
    path = unzipped(path, unpacked) if path.suffix == ".zip" else path
    logger.warning(
        "%s: ONE VOLUME IS TRAINING, VALIDATION AND TEST SET. This shows that everything runs;"
        " scores on it mean nothing",
        path.name,
    )
    return {part: [(path, "all")] for part in PARTS}


def lone_volume(data: Path) -> Path:
    """Return the single volume that a path names, or that lies in a folder."""
    if data.suffix in (".zarr", ".zip") and data.exists():
        return data
    inner = sorted([*data.glob("*.zarr"), *data.glob("*.zip")])
    if len(inner) != 1:
        raise ConfigError(
            f"{data}: expected the folders completely/ and partly/ of FISBe, or a single volume"
            f" (.zarr or .zip); found {len(inner)} volumes. Check --data"
        )
    return inner[0]


def unzipped(archive: Path, folder: Path) -> Path:
    """Unpack a zip with one zarr folder in it and return that folder."""
    try:
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{archive}: cannot be unpacked ({error}); download it again") from error
    inner = sorted(folder.glob("*.zarr"))
    if len(inner) != 1:
        raise DataError(f"{archive}: expected one .zarr folder in it, found {len(inner)}")
    return inner[0]


def pending(path: Path, labelled: str, found: argparse.Namespace) -> Pending:
    """Return what is to be written of a volume."""
    keys = (INSTANCES_KEY, MASK_KEY) if found.sets == "both" else (INSTANCES_KEY,)
    return Pending(path.stem, keys, partial(read_volume, path, labelled, found))


def read_volume(path: Path, labelled: str, found: argparse.Namespace) -> Arrays:
    """Return image, neurons and, where volumes are labelled differently, the mask of labels."""
    image = open_array(path, RAW_KEY)
    instances = inside(read_whole(open_array(path, INSTANCES_KEY)))
    arrays = {INSTANCES_KEY: instances[instances.any(axis=(1, 2, 3))]}
    if found.sets == "both":
        labels = instances.any(axis=0)
        arrays[MASK_KEY] = inside(labels if labelled == "some" else np.ones_like(labels))
    stored = [float(side) for side in np.ravel(image.attributes.get("resolution", ()))]
    known = len(stored) >= 3
    resolution = tuple(stored[-3:]) if known else tuple(found.resolution)
    unit = str(np.ravel(image.attributes.get("units", "voxel"))[-1]) if known else found.unit
    return Arrays(read_whole(image), arrays, resolution, unit)


def wrong_volumes(path: Path) -> list[str]:
    """Return what is wrong with a volume, from its headers."""
    if not has_array(path, RAW_KEY) or not has_array(path, INSTANCES_KEY):
        there = ", ".join(list_arrays(path)) if path.is_dir() else "no folder"
        return [f"{path}: expected {RAW_KEY} and {INSTANCES_KEY}, found {there}; download it again"]
    raw, instances = open_array(path, RAW_KEY).shape, open_array(path, INSTANCES_KEY).shape
    if len(raw) == len(instances) == 4 and raw[0] == 3 and raw[1:] == instances[1:]:
        return []
    return [
        f"{path}: expected an image (3, z, y, x) and neurons (n, z, y, x) of the same volume, found"
        f" {raw} and {instances}; download it again"
    ]


def prepare(found: argparse.Namespace) -> None:
    """Write all samples."""
    with tempfile.TemporaryDirectory() as unpacked:
        whole = (found.data / "completely").is_dir() or (found.data / "partly").is_dir()
        sets = fisbe(found) if whole else single(found, Path(unpacked))
        volumes = sorted({path for sources in sets.values() for path, _ in sources})
        refuse_problems([problem for path in volumes for problem in wrong_volumes(path)])
        for part, sources in sets.items():
            samples = [pending(path, labelled, found) for path, labelled in sources]
            counts = write_pending(samples, found.out / part)
            logger.info("%s: %d samples written", found.out / part, counts.written)


def main(command_line: Sequence[str]) -> int:
    """Prepare the samples; return the exit code."""
    found = arguments(command_line)
    return exit_code(lambda: prepare(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

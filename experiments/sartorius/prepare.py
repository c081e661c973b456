"""Turn the cells of the Sartorius competition into samples for training.

The competition's archive unpacked into one folder (train.csv and train/ with PNG images)::

    python experiments/sartorius/prepare.py --data competition --out samples --fold 0 --folds 5

writes samples/train and samples/val (the images of one fold) with one channel per cell, because
annotations overlap, and samples/test where there is a folder test/. Folds are of whole images, and
each has its share of every cell type. A sample that is there already is left as it is, so an
interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from instaseg.errors import ConfigError, DataError
from instaseg.io.arrays import open_array
from instaseg.io.prepared import (
    INSTANCES_KEY,
    Arrays,
    Pending,
    exit_code,
    need_folders,
    refuse_problems,
    write_pending,
)
from instaseg.io.run_lengths import decode
from instaseg.io.samples import read_whole

logger = logging.getLogger("prepare")

COLUMNS = ("id", "annotation", "width", "height", "cell_type")
# Images whose cells are all annotated twice: their walls would be larger than their cells.
DOUBLED = ("ce5d0de993bd", "a9fc5e872671")


@dataclass
class Annotated:
    """The annotations of one image."""

    shape: tuple[int, int]
    kind: str
    cells: list[str] = field(default_factory=list)


def arguments(command_line: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train.csv, train/")
    parser.add_argument("--out", type=Path, required=True, help="folder the samples are written to")
    parser.add_argument("--folds", type=int, default=5, help="number of folds")
    parser.add_argument("--fold", type=int, default=0, help="fold that validates, from 0")
    found = parser.parse_args(command_line)
    if found.folds < 2 or not 0 <= found.fold < found.folds:
        parser.error(f"--fold must be from 0 to {found.folds - 1}, --folds 2 or more")
    return found


def read_table(file: Path) -> dict[str, Annotated]:
    """Return the annotations of ``train.csv`` by image.

    Raises
    ------
    ConfigError
        If it is not there, or lacks a column.
    """
    if not file.is_file():
        raise ConfigError(f"{file}: not found; check --data")
    images: dict[str, Annotated] = {}
    # an annotation may be longer than the reader's limit
    csv.field_size_limit(2**24)
    with file.open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise ConfigError(
                f"{file}: expected the columns {', '.join(COLUMNS)}; missing {', '.join(missing)}"
            )
        for row in rows:
            shape = (int(row["height"]), int(row["width"]))
            image = images.setdefault(row["id"], Annotated(shape, row["cell_type"]))
            image.cells.append(row["annotation"])
    return {name: image for name, image in images.items() if name not in DOUBLED}


def split(images: dict[str, Annotated], folds: int) -> dict[str, int]:
    """Return the fold of each image: those of a type are dealt out by their number of cells."""
    order = sorted(images, key=lambda name: (images[name].kind, len(images[name].cells), name))
    return {name: number % folds for number, name in enumerate(order)}


def check(data: Path, images: dict[str, Annotated]) -> None:
    """Refuse images that are missing or have another shape than their annotations."""
    problems = []
    for name, image in images.items():
        file = data / "train" / f"{name}.png"
        if not file.is_file():
            problems.append(f"image {name}: expected {file}, found none; download it again")
            continue
        shape = open_array(file, "").shape[:2]
        if shape != image.shape:
            problems.append(f"image {name}: has shape {shape}; train.csv says {image.shape}")
    refuse_problems(problems)


def read_sample(file: Path, image: Annotated) -> Arrays:
    """Return an image and one channel for each of its cells."""
    try:
        cells = np.stack([decode(cell, image.shape) for cell in image.cells]).astype(np.uint8)
    except DataError as error:
        raise DataError(f"image {file.stem}: {error}") from error
    return Arrays(
        read_grey(file), {INSTANCES_KEY: cells}, (1.0, 1.0), attributes={"type": image.kind}
    )


def read_grey(file: Path) -> np.ndarray:
    """Return an image ``(1, y, x)``; of one with channels, which are all alike, the first."""
    image = read_whole(open_array(file, ""))
    return image[np.newaxis] if image.ndim == 2 else image[np.newaxis, ..., 0]


def main(command_line: Sequence[str]) -> int:
    """Prepare the samples; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    found = arguments(command_line)
    return exit_code(partial(prepare, found))


def prepare(found: argparse.Namespace) -> None:
    """Write all samples."""
    need_folders(found.data, ("train",))
    images = read_table(found.data / "train.csv")
    check(found.data, images)
    fold_of = split(images, found.folds)
    sets: dict[str, list[Pending]] = {"train": [], "val": []}
    for name, image in images.items():
        read = partial(read_sample, found.data / "train" / f"{name}.png", image)
        part = "val" if fold_of[name] == found.fold else "train"
        sets[part].append(Pending(name, (INSTANCES_KEY,), read))
    tests = sorted((found.data / "test").glob("*.png"))
    if tests:
        sets["test"] = [
            Pending(file.stem, (), partial(lambda f: Arrays(read_grey(f), {}, (1.0, 1.0)), file))
            for file in tests
        ]
    for part, pending in sets.items():
        counts = write_pending(pending, found.out / part)
        logger.info("%s: %d samples written", found.out / part, counts.written)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

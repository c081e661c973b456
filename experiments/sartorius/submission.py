"""Write the competition's CSV from labelled images.

Results of an experiment, after ``--do export`` (one TIFF of labels for each test image)::

    python experiments/sartorius/submission.py --labels EXPERIMENT/test/export --out submission.csv

One row for each cell, ``id,predicted`` with row-major run lengths; an image without cells has one
row without any. Instances that share a pixel are refused: the competition takes none.
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from instaseg.errors import ConfigError, DataError
from instaseg.io.arrays import open_array
from instaseg.io.prepared import exit_code
from instaseg.io.run_lengths import encode_labels
from instaseg.io.samples import read_whole

logger = logging.getLogger("submission")


def arguments(command_line: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--labels", type=Path, required=True, help="folder of TIFF labels")
    parser.add_argument("--out", type=Path, required=True, help="the CSV file to write")
    return parser.parse_args(command_line)


def one_layer(labels: NDArray[Any], name: str) -> NDArray[Any]:
    """Return labels ``(y, x)``, of channels too if no two share a pixel.

    Raises
    ------
    DataError
        If instances overlap.
    """
    if labels.ndim == 2:
        return labels
    shared = int(((labels != 0).sum(axis=0) > 1).sum())
    if shared:
        raise DataError(
            f"{name}: expected instances that do not overlap, found {shared} pixels with more than"
            " one; use a setup without overlaps, such as setup02"
        )
    numbers = np.arange(1, len(labels) + 1).reshape(-1, 1, 1)
    painted: NDArray[Any] = ((labels != 0) * numbers).max(axis=0)
    return painted


def rows(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield image and run lengths of every instance."""
    files = sorted(folder.glob("*.tif"))
    if not files:
        raise ConfigError(f"{folder}: expected *.tif files, found none; run --do export first")
    for file in files:
        labels = one_layer(read_whole(open_array(file, "")), file.stem)
        found = encode_labels(labels)
        yield from ((file.stem, text) for _, text in found)
        if not found:
            yield file.stem, ""


def write(found: argparse.Namespace) -> None:
    """Write the file, after all images were read."""
    table = list(rows(found.labels))
    with found.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "predicted"])
        writer.writerows(table)
    logger.info("%s: %d rows", found.out, len(table))


def main(command_line: Sequence[str]) -> int:
    """Write the submission; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return exit_code(partial(write, arguments(command_line)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

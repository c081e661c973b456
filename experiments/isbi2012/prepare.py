"""Turn the membranes of the ISBI 2012 challenge into samples for training.

Numbered sections in train/image and train/label (255 is not membrane)::

    python experiments/isbi2012/prepare.py --data isbi2012 --out samples

writes one volume each to samples/train (sections 0 to 19), samples/val (20 to 23) and samples/test
(24 to 26). An instance is a connected component of what is not membrane in one section: sections
are far apart, so nothing is connected from one to the next. A sample that is there already is left
as it is.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from instaseg.errors import DataError
from instaseg.io.arrays import IMAGE_SUFFIXES, open_array
from instaseg.io.convert import LABELS_KEY
from instaseg.io.prepared import (
    Arrays,
    Pending,
    exit_code,
    need_folders,
    refuse_problems,
    write_pending,
)
from instaseg.io.samples import read_whole

logger = logging.getLogger("prepare")

IMAGES, LABELS = "train/image", "train/label"
SECTIONS = {"train": range(20), "val": range(20, 24), "test": range(24, 27)}
RESOLUTION = (50.0, 4.0, 4.0)
UNIT = "nm"


def arguments(command_line: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help=f"folder with {IMAGES} ...")
    parser.add_argument("--out", type=Path, required=True, help="folder the samples are written to")
    return parser.parse_args(command_line)


def numbered(folder: Path) -> dict[int, Path]:
    """Return the images of a folder by the number that is their name."""
    return {
        int(file.stem): file
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in IMAGE_SUFFIXES and file.stem.isdigit()
    }


def stacks(data: Path) -> dict[str, Pending]:
    """Return one volume for each part, after a look at all files' headers."""
    need_folders(data, (IMAGES, LABELS))
    images, labels = numbered(data / IMAGES), numbered(data / LABELS)
    wanted = [section for part in SECTIONS.values() for section in part]
    problems = [
        f"section {section}: expected {folder}/{section}.png, found no such file; download it"
        for section in wanted
        for folder, there in ((IMAGES, images), (LABELS, labels))
        if section not in there
    ]
    refuse_problems(problems)
    files = [files[section] for section in wanted for files in (images, labels)]
    shape = open_array(files[0], "").shape
    refuse_problems(
        [
            f"{file}: expected shape {shape} as all sections, found {found}; download it again"
            for file in files
            if (found := open_array(file, "").shape) != shape
        ]
    )
    return {
        part: Pending(
            f"sections_{sections[0]:02}_{sections[-1]:02}",
            (LABELS_KEY,),
            partial(read_stack, [images[s] for s in sections], [labels[s] for s in sections]),
        )
        for part, sections in SECTIONS.items()
    }


def read_stack(images: Sequence[Path], labels: Sequence[Path]) -> Arrays:
    """Return sections as a volume."""
    raw = np.stack([read_whole(open_array(file, "")) for file in images])
    cells = components([(file, read_whole(open_array(file, ""))) for file in labels])
    return Arrays(raw[np.newaxis], {LABELS_KEY: cells}, RESOLUTION, UNIT)


def components(sections: Sequence[tuple[Path, NDArray[Any]]]) -> NDArray[np.uint16]:
    """Return what is not membrane, numbered section by section (faces connect)."""
    from scipy.ndimage import label

    numbered_ = []
    last = 0
    for file, section in sections:
        if not set(np.unique(section).tolist()) <= {0, 255}:
            raise DataError(f"{file}: expected 0 (membrane) and 255, found other values; check it")
        found, count = label(section > 0)
        numbered_.append(np.where(found > 0, found + last, 0))
        last += count
    return np.stack(numbered_).astype(np.uint16)


def prepare(found: argparse.Namespace) -> None:
    """Write all samples."""
    for part, stack in stacks(found.data).items():
        counts = write_pending([stack], found.out / part)
        logger.info("%s: %d samples written", found.out / part, counts.written)


def main(command_line: Sequence[str]) -> int:
    """Prepare the samples; return the exit code."""
    found = arguments(command_line)
    return exit_code(lambda: prepare(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

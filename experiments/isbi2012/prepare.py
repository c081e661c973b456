"""Turn the membranes of the ISBI 2012 challenge into samples for training.

Numbered sections in train/image and train/label (255 is not membrane)::

    python experiments/isbi2012/prepare.py --data isbi2012 --out samples

writes one volume each to samples/train (sections 0 to 19), samples/val (20 to 23) and samples/test
(24 to 26); with ``--samples sections`` every section is a 2-D sample, for methods that would
connect instances of neighbouring sections. An instance is a connected component of what is not
membrane in one section: sections are far apart, so nothing is connected from one to the next. A
sample that is there already is left as it is.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from instaseg.errors import DataError
from instaseg.io.arrays import open_array
from instaseg.io.convert import LABELS_KEY
from instaseg.io.prepared import (
    Arrays,
    Pending,
    exit_code,
    need_folders,
    need_one_shape,
    numbered_images,
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
    parser.add_argument(
        "--samples",
        choices=("volumes", "sections"),
        default="volumes",
        help="one volume for each part, or every section as a 2-D image (default: volumes)",
    )
    return parser.parse_args(command_line)


class Section(NamedTuple):
    """Two files: a section, and where it is not membrane.

    Parameters
    ----------
    number : int
        Its place in the published volume.
    image, labels : Path
        The files.
    """

    number: int
    image: Path
    labels: Path


def checked(data: Path) -> dict[str, list[Section]]:
    """Return the sections of each part, after a look at all files' headers."""
    need_folders(data, (IMAGES, LABELS))
    images, labels = numbered_images(data / IMAGES), numbered_images(data / LABELS)
    wanted = [section for part in SECTIONS.values() for section in part]
    problems = [
        f"section {section}: expected {folder}/{section}.png, found no such file; download it"
        for section in wanted
        for folder, there in ((IMAGES, images), (LABELS, labels))
        if section not in there
    ]
    refuse_problems(problems)
    need_one_shape([files[section] for section in wanted for files in (images, labels)])
    return {
        part: [Section(number, images[number], labels[number]) for number in numbers]
        for part, numbers in SECTIONS.items()
    }


def as_volume(sections: Sequence[Section]) -> Pending:
    """Return a volume of sections."""
    name = f"sections_{sections[0].number:02}_{sections[-1].number:02}"
    return Pending(name, (LABELS_KEY,), partial(read_stack, sections))


def as_image(section: Section) -> Pending:
    """Return a section as a 2-D image."""
    return Pending(f"section_{section.number:02}", (LABELS_KEY,), partial(read_section, section))


def read_stack(sections: Sequence[Section]) -> Arrays:
    """Return sections as a volume."""
    raw = np.stack([read_whole(open_array(section.image, "")) for section in sections])
    labels = components([section.labels for section in sections])
    return Arrays(raw[np.newaxis], {LABELS_KEY: labels}, RESOLUTION, UNIT)


def read_section(section: Section) -> Arrays:
    """Return a section as a 2-D image."""
    stack = read_stack([section])
    return Arrays(stack.raw[:, 0], {LABELS_KEY: stack.arrays[LABELS_KEY][0]}, RESOLUTION[1:], UNIT)


def components(files: Sequence[Path]) -> NDArray[np.uint16]:
    """Return what is not membrane, numbered section by section (faces connect)."""
    from scipy.ndimage import label

    numbered = []
    last = 0
    for file in files:
        section = read_whole(open_array(file, ""))
        if not set(np.unique(section).tolist()) <= {0, 255}:
            raise DataError(f"{file}: expected 0 (membrane) and 255, found other values; check it")
        found, count = label(section > 0)
        numbered.append(np.where(found > 0, found + last, 0))
        last += count
    return np.stack(numbered).astype(np.uint16)


def prepare(found: argparse.Namespace) -> None:
    """Write all samples."""
    for part, sections in checked(found.data).items():
        pending = (
            [as_volume(sections)]
            if found.samples == "volumes"
            else [as_image(section) for section in sections]
        )
        counts = write_pending(pending, found.out / part)
        logger.info("%s: %d samples written", found.out / part, counts.written)


def main(command_line: Sequence[str]) -> int:
    """Prepare the samples; return the exit code."""
    found = arguments(command_line)
    return exit_code(lambda: prepare(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Turn the worms of BBBC010 into samples for training.

The two archives of BBBC010 unpacked into one folder (BBBC010_v1_images and
BBBC010_v1_foreground_eachworm), split as the authors of PatchPerPix do::

    python experiments/wormbodies/prepare.py --data bbbc010 --out samples

writes samples/train (A01 to B20), samples/val (B21 to C02) and samples/test (the first fold of the
authors' test wells). Images are written without the shading of the well: how much darker a pixel is
than the brightest ones around it, so that worms are bright on dark ground (``--image raw`` leaves
them as they are). A sample that is there already is left as it is, so an interrupted run goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from instaseg.errors import DataError
from instaseg.io.arrays import open_array
from instaseg.io.prepared import (
    INSTANCES_KEY,
    Arrays,
    Pending,
    exit_code,
    inside,
    need_folders,
    refuse_problems,
    write_pending,
)
from instaseg.io.samples import read_whole

logger = logging.getLogger("prepare")

IMAGES = "BBBC010_v1_images"
WORMS = "BBBC010_v1_foreground_eachworm"
WELLS = [f"{row}{column:02}" for row in "ABCDE" for column in range(1, 25)][:100]
TRAIN, VAL, TEST = WELLS[:44], WELLS[44:50], WELLS[50:]
FOLD_1 = [
    *("C03", "C06", "C07", "C12", "C13", "C14", "C15", "C19", "C21", "C22", "C24", "D02", "D03"),
    *("D04", "D05", "D08", "D10", "D12", "D14", "D17", "D18", "D20", "D22", "D24", "E03"),
]
# some of their worms have no outline, so that finding them would count as an error
INCOMPLETE = ("C13", "C14", "D24")
CLOSING = 61
FOLDS = {
    "fold1": FOLD_1,
    "fold2": [well for well in TEST if well not in FOLD_1],
    "both": TEST,
}


def arguments(command_line: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help=f"folder with {IMAGES}/ ...")
    parser.add_argument("--out", type=Path, required=True, help="folder the samples are written to")
    parser.add_argument(
        "--test", choices=tuple(FOLDS), default="fold1", help="wells that are written to test/"
    )
    parser.add_argument(
        "--image", choices=("flat", "raw"), default="flat", help="without shading, or as it is"
    )
    return parser.parse_args(command_line)


def files_by_well(folder: Path, pattern: str) -> dict[str, list[Path]]:
    """Return the files of each well, sorted by name."""
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        match = re.search(pattern, file.name)
        if match:
            found.setdefault(match[1], []).append(file)
    return found


def wells_of(data: Path, parts: dict[str, list[str]], kind: str) -> dict[str, list[Pending]]:
    """Return the samples of each part, after a look at all files' headers."""
    need_folders(data, (IMAGES, WORMS))
    images = files_by_well(data / IMAGES, r"_([A-E]\d\d)_w2_.*\.tif$")
    worms = files_by_well(data / WORMS, r"^([A-E]\d\d)_\d+_ground_truth\.png$")
    problems = []
    for well in (well for part in parts.values() for well in part):
        if len(images.get(well, [])) != 1:
            problems.append(
                f"well {well}: expected one brightfield image (w2) in {IMAGES}/, found"
                f" {len(images.get(well, []))}; download the images again"
            )
            continue
        problems += wrong_worms(well, images[well][0], worms.get(well, []))
    refuse_problems(problems)
    return {
        part: [
            Pending(well, (INSTANCES_KEY,), partial(read_well, images[well][0], worms[well], kind))
            for well in wells
        ]
        for part, wells in parts.items()
    }


def wrong_worms(well: str, image: Path, worms: Sequence[Path]) -> list[str]:
    """Return what is wrong with the files of one well."""
    if not worms:
        return [f"well {well}: expected one PNG per worm in {WORMS}/, found none; download it"]
    shape = open_array(image, "").shape
    return [
        f"well {well}: {worm.name} has shape {found}; expected {shape} as its image"
        for worm in worms
        if (found := open_array(worm, "").shape) != shape
    ]


def read_well(image: Path, worms: Sequence[Path], kind: str) -> Arrays:
    """Return the brightfield image, without shading or raw, and one channel per worm."""
    instances = np.stack([inside(read_whole(open_array(worm, ""))) for worm in worms])
    for worm, instance in zip(worms, instances, strict=True):
        if not instance.any():
            raise DataError(f"{worm}: expected a worm, found an empty mask; download it again")
    raw = read_whole(open_array(image, ""))
    raw = without_shading(raw) if kind == "flat" else raw
    return Arrays(raw[np.newaxis], {INSTANCES_KEY: instances}, resolution=(1.0, 1.0))


def without_shading(image: NDArray[Any]) -> NDArray[np.uint16]:
    """Return by how much each pixel is darker than its surroundings, in 1/10000 of the logarithm.

    The surroundings are a closing over more than the width of a curled worm: a dark object that is
    smaller disappears in it, the well's shading and its black frame do not. The frame is thin at
    some edges, so it is continued beyond them.
    """
    from scipy.ndimage import grey_closing

    logarithm = np.log(np.maximum(image, 1).astype(np.float32))
    wide = grey_closing(np.pad(logarithm, CLOSING, mode="edge"), size=(CLOSING, CLOSING))
    around = wide[CLOSING:-CLOSING, CLOSING:-CLOSING]
    return np.rint(1e4 * (around - logarithm)).astype(np.uint16)


def prepare(found: argparse.Namespace) -> None:
    """Write all samples."""
    wells = {"train": TRAIN, "val": VAL, "test": FOLDS[found.test]}
    left_out = [well for well in wells["test"] if well in INCOMPLETE]
    if left_out:
        logger.info("left out, since not all of their worms are labelled: %s", ", ".join(left_out))
    wells = {part: [well for well in all_ if well not in left_out] for part, all_ in wells.items()}
    for part, samples in wells_of(found.data, wells, found.image).items():
        counts = write_pending(samples, found.out / part)
        logger.info("%s: %d samples written", found.out / part, counts.written)


def main(command_line: Sequence[str]) -> int:
    """Prepare the samples; return the exit code."""
    found = arguments(command_line)
    return exit_code(lambda: prepare(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

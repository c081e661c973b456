"""Turn the segmented sections of a fly's nerve cord into samples for training.

Numbered sections in raw/, membranes/, mitochondria/ and synapses/ (masks: white is the structure)::

    python experiments/vnc/prepare.py --data stack1 --out samples

writes one volume each to samples/train (sections 0 to 13) and samples/val (14 and 15), with

    volumes/gt_labels   classes: 0 background, 1 membrane, 2 mitochondrion, 3 synapse
    volumes/gt_clefts   one label for each synaptic cleft, for method.name = "synapses"
    volumes/gt_points   the clefts' centroids

Where masks overlap, synapses hide mitochondria, which hide membranes: a cleft lies on a membrane,
and little of it would be left. A cleft is what is connected over sections, corners included. A
sample that is there already is left as it is.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from instaseg.blockwise.components import local_labels
from instaseg.errors import DataError
from instaseg.io.arrays import open_array
from instaseg.io.convert import LABELS_KEY
from instaseg.io.points import CLEFT, POINTS_KEY, Points, make_points
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

RAW = "raw"
CLASSES = ("membranes", "mitochondria", "synapses")
"""Folders of masks, by class from 1 on; of masks that overlap the last one counts."""
SYNAPSES = "synapses"
SECTIONS = {"train": range(14), "val": range(14, 16)}
RESOLUTION = (50.0, 4.6, 4.6)
UNIT = "nm"
CLEFTS_KEY = "volumes/gt_clefts"
WHITE = 127
"""Values of a mask above this are the structure."""


def arguments(command_line: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with raw/, membranes/ ...")
    parser.add_argument("--out", type=Path, required=True, help="folder the samples are written to")
    return parser.parse_args(command_line)


def stacks(data: Path) -> dict[str, Pending]:
    """Return one volume for each part, after a look at all files' headers."""
    folders = (RAW, *CLASSES)
    need_folders(data, folders)
    there = {folder: numbered_images(data / folder) for folder in folders}
    wanted = [section for part in SECTIONS.values() for section in part]
    refuse_problems(
        [
            f"section {section}: expected an image {folder}/{section:02}, found no such file;"
            " download it"
            for section in wanted
            for folder in folders
            if section not in there[folder]
        ]
    )
    need_one_shape([there[folder][section] for section in wanted for folder in folders])
    return {
        part: Pending(
            f"sections_{sections[0]:02}_{sections[-1]:02}",
            (LABELS_KEY, CLEFTS_KEY, POINTS_KEY),
            partial(
                read_stack,
                {folder: [there[folder][section] for section in sections] for folder in folders},
            ),
        )
        for part, sections in SECTIONS.items()
    }


def read_stack(files: Mapping[str, Sequence[Path]]) -> Arrays:
    """Return sections as a volume."""
    raw = np.stack([read_whole(open_array(file, "")) for file in files[RAW]])
    masks = {name: np.stack([read_mask(file) for file in files[name]]) for name in CLASSES}
    clefts = local_labels(masks[SYNAPSES])
    arrays = {
        LABELS_KEY: classes([masks[name] for name in CLASSES]),
        CLEFTS_KEY: clefts.astype(np.uint16),
        POINTS_KEY: centroids(clefts),
    }
    return Arrays(raw[np.newaxis], arrays, RESOLUTION, UNIT)


def read_mask(file: Path) -> NDArray[np.bool_]:
    """Return where a mask is white; files hold one bit or one byte per pixel."""
    values = read_whole(open_array(file, ""))
    if values.dtype == bool:
        return values
    if values.dtype != np.uint8:
        raise DataError(f"{file}: expected a mask of 1 or 8 bits, found {values.dtype}; check it")
    return np.asarray(values > WHITE, dtype=bool)


def classes(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """Return the class of every voxel: the last mask that holds it, counted from 1, else 0."""
    result = np.zeros(masks[0].shape, np.uint8)
    for number, mask in enumerate(masks, 1):
        result[mask] = number
    return result


def centroids(clefts: NDArray[Any]) -> Points:
    """Return the centroid of each label as a point."""
    voxels = np.nonzero(clefts)
    number = clefts[voxels].astype(np.int64) - 1
    sizes = np.bincount(number)
    return make_points(CLEFT, np.stack([np.bincount(number, v) / sizes for v in voxels], axis=1))


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

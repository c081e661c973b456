"""Turn volumes of nuclei into samples for training.

BBBC050 as downloaded (Images/train/Images, GroundTruth/train/GroundTruth_QCANet, and so for test),
split by embryo, since neighbouring time points are nearly the same image::

    python experiments/nuclei3d/prepare.py --data bbbc050 --out samples

StarDist's 3-D layout (train/images, train/masks, test/images, test/masks), of which every sixth
volume of train/ validates::

    python experiments/nuclei3d/prepare.py --data demo3D --out samples --resolution 2 1 1

A sample that is there already is left as it is, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from instaseg.data.check import check_samples
from instaseg.data.config import DataSettings
from instaseg.errors import ConfigError, DataError
from instaseg.io.convert import convert, paired_samples, rename_units
from instaseg.io.prepared import exit_code, need_folders
from instaseg.io.samples import Sample

logger = logging.getLogger("prepare")

BBBC050 = {
    part: (f"Images/{part}/Images", f"GroundTruth/{part}/GroundTruth_QCANet")
    for part in ("train", "test")
}
STARDIST = {part: (f"{part}/images", f"{part}/masks") for part in ("train", "test")}
RESOLUTION = (2.2, 1.0, 1.0)


def arguments(command_line: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder as downloaded")
    parser.add_argument("--out", type=Path, required=True, help="folder the samples are written to")
    parser.add_argument(
        "--val-embryos", nargs="+", default=["10"], metavar="NN", help="embryos that validate"
    )
    parser.add_argument(
        "--every", type=int, default=1, help="take every n-th time point, counted from the last"
    )
    parser.add_argument(
        "--resolution", type=float, nargs=3, default=RESOLUTION, help="size of a voxel per axis"
    )
    parser.add_argument("--unit", default="voxel", help="unit of --resolution")
    found = parser.parse_args(command_line)
    if found.every < 1:
        parser.error(f"--every must be at least 1, got {found.every}")
    if min(found.resolution) <= 0:
        parser.error(f"--resolution must be positive, got {found.resolution}")
    return found


def data_sets(found: argparse.Namespace, settings: DataSettings) -> dict[str, list[Sample]]:
    """Return the samples of each part, in whichever layout the folder has."""
    if (found.data / "Images").is_dir():
        return embryos(found, settings)
    if not (found.data / "train" / "images").is_dir():
        raise ConfigError(
            f"{found.data}: expected Images/ and GroundTruth/ (BBBC050), or train/images/ and"
            " train/masks/ (StarDist); found neither. Check --data"
        )
    sets = {
        part: paired_samples(found.data / images, found.data / masks, settings)
        for part, (images, masks) in STARDIST.items()
        if (found.data / images).is_dir()
    }
    train = sets["train"]
    sets |= {"train": [s for i, s in enumerate(train) if i % 6 != 5], "val": train[5::6]}
    if not sets["val"]:
        raise DataError(
            f"{found.data}: expected at least six volumes in train/images, of which one validates;"
            f" found {len(train)}. Add some"
        )
    return sets


def embryos(found: argparse.Namespace, settings: DataSettings) -> dict[str, list[Sample]]:
    """Return the volumes of BBBC050, whole embryos to each part."""
    need_folders(found.data, [name for pair in BBBC050.values() for name in pair])
    sets = {
        part: thinned(
            paired_samples(found.data / images, found.data / masks, settings), found.every
        )
        for part, (images, masks) in BBBC050.items()
    }
    train = sets["train"]
    there = sorted({embryo(sample)[0] for sample in train})
    unknown = [number for number in found.val_embryos if number not in there]
    if unknown or set(found.val_embryos) >= set(there):
        raise ConfigError(
            f"--val-embryos: expected some, not all, of the embryos {', '.join(there)} of"
            f" {found.data}; got {', '.join(found.val_embryos)}"
        )
    return {
        "train": [sample for sample in train if embryo(sample)[0] not in found.val_embryos],
        "val": [sample for sample in train if embryo(sample)[0] in found.val_embryos],
        "test": sets["test"],
    }


def embryo(sample: Sample) -> tuple[str, int]:
    """Return embryo and time point of a sample."""
    match = re.fullmatch(r"Emb(\d+)_t(\d+)", sample.name)
    if match is None:
        raise DataError(
            f"{sample.raw.path}: expected a name such as Emb01_t001.tif, which tells embryo and"
            " time point; rename it"
        )
    return match[1], int(match[2])


def thinned(samples: Sequence[Sample], every: int) -> list[Sample]:
    """Return every n-th time point of each embryo; the last ones have the most nuclei."""
    of_embryo: dict[str, list[Sample]] = {}
    for sample in sorted(samples, key=embryo):
        of_embryo.setdefault(embryo(sample)[0], []).append(sample)
    return [s for series in of_embryo.values() for s in reversed(series[::-1][::every])]


def prepare(found: argparse.Namespace) -> None:
    """Write all samples."""
    settings = DataSettings(ndim=3, voxel_size=tuple(found.resolution))
    sets = data_sets(found, settings)
    for samples in sets.values():
        check_samples(samples, settings, labels="required", least_shape=(1, 1, 1))
    for part, samples in sets.items():
        counts = convert(rename_units(samples, found.unit), found.out / part)
        logger.info("%s: %d samples written", found.out / part, counts.written)


def main(command_line: Sequence[str]) -> int:
    """Prepare the samples; return the exit code."""
    found = arguments(command_line)
    return exit_code(lambda: prepare(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

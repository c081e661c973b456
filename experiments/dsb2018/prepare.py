"""Turn folders of nuclei images into samples for training.

The embedded images (x/ and y/ below train/, val/ and test/ of experiments/dsb2018/data)::

    python experiments/dsb2018/prepare.py --out samples

StarDist's subset as downloaded (train/images, train/masks), split by a list of names::

    python experiments/dsb2018/prepare.py --data dsb2018 --val-ids val_ids.txt --out samples

Your own images and labels, one folder each::

    python experiments/dsb2018/prepare.py --images my/images --masks my/masks --out samples/train

A sample that is there already is left as it is, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from instaseg.data.check import check_samples  # noqa: E402
from instaseg.data.config import DataSettings  # noqa: E402
from instaseg.errors import ConfigError, InstasegError  # noqa: E402
from instaseg.io.convert import (  # noqa: E402
    convert,
    paired_samples,
    rename_units,
    split_by_names,
)
from instaseg.io.samples import Sample, find_samples  # noqa: E402

logger = logging.getLogger("prepare")
PARTS = ("train", "val", "test")


def arguments(command_line: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=HERE / "data", help="folder with train/ ...")
    parser.add_argument("--val-ids", type=Path, help="file with names of train/ that validate")
    parser.add_argument("--images", type=Path, help="your images, instead of --data")
    parser.add_argument("--masks", type=Path, help="labels of your images")
    parser.add_argument("--out", type=Path, required=True, help="folder the samples are written to")
    parser.add_argument("--ndim", type=int, choices=(2, 3), default=2, help="spatial axes")
    parser.add_argument("--channels", type=int, default=1, help="channels of an image")
    parser.add_argument("--resolution", type=float, nargs="+", help="size of a voxel per axis")
    parser.add_argument("--unit", default="voxel", help="unit of --resolution")
    found = parser.parse_args(command_line)
    if found.masks and not found.images:
        parser.error("--masks needs --images")
    if found.images and found.val_ids:
        parser.error("--val-ids goes with --data, not with --images")
    if found.resolution and len(found.resolution) != found.ndim:
        parser.error(f"--resolution needs {found.ndim} numbers, got {len(found.resolution)}")
    if found.resolution and min(found.resolution) <= 0:
        parser.error(f"--resolution must be positive, got {found.resolution}")
    if found.channels < 1:
        parser.error(f"--channels must be at least 1, got {found.channels}")
    return found


def data_sets(found: argparse.Namespace, settings: DataSettings) -> dict[Path, list[Sample]]:
    """Return the samples for each folder that is to be written."""
    if found.images:
        return {found.out: paired_samples(found.images, found.masks, settings)}
    there = [part for part in PARTS if (found.data / part).is_dir()]
    if not there:
        raise ConfigError(f"{found.data}: expected folders train/, val/ or test/; check --data")
    sets = {found.out / part: find_samples(found.data / part, settings) for part in there}
    if found.val_ids:
        if "train" not in there:
            raise ConfigError(
                f"{found.data}: expected a folder train/ that --val-ids divides, found only"
                f" {', '.join(there)}; check --data, or leave out --val-ids"
            )
        if not found.val_ids.is_file():
            raise ConfigError(f"{found.val_ids}: not found; check --val-ids")
        names = found.val_ids.read_text().split()
        train, validate = split_by_names(sets[found.out / "train"], names)
        sets |= {found.out / "train": train, found.out / "val": validate}
    return sets


def main(command_line: Sequence[str]) -> int:
    """Prepare the samples; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    found = arguments(command_line)
    settings = DataSettings(
        ndim=found.ndim,
        num_channels=found.channels,
        voxel_size=tuple(found.resolution) if found.resolution else None,
    )
    try:
        sets = data_sets(found, settings)
        for samples in sets.values():
            check_samples(samples, settings, labels="optional", least_shape=(1,) * found.ndim)
        for folder, samples in sets.items():
            counts = convert(rename_units(samples, found.unit), folder)
            logger.info("%s: %d samples written", folder, counts.written)
    except InstasegError as error:
        logger.error("error: %s", error)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

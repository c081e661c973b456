"""Folders of image files, and which labels belong to which image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from instaseg.errors import DataError
from instaseg.io.arrays import IMAGE_SUFFIXES

FOLDER_PAIRS = (("x", "y"), ("images", "masks"), ("raw", "label"))
"""Names of a folder of images and of the one beside it with their labels."""


def visible_files(folder: Path) -> list[Path]:
    """Return what lies in a folder, sorted, hidden files left out."""
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def image_files(folder: Path) -> list[Path]:
    """Return the image files of a folder, sorted; empty where there is no such folder."""
    if not folder.is_dir():
        return []
    return [p for p in visible_files(folder) if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]


def pair_images(images: Path, labels: Path) -> list[tuple[Path, Path | None]]:
    """Return each image file with its label file, sorted by name.

    Files of equal stem belong together; else those with the same last number, or whose stems
    contain one another (``a.tif``, ``a_mask.tif``), in sorted order. Without a folder of labels
    every image stands alone.

    Parameters
    ----------
    images, labels : Path
        Folders of TIFF and PNG files.

    Raises
    ------
    DataError
        If a file has no partner: all of them are listed.
    """
    found, found_labels = image_files(images), image_files(labels)
    if not labels.is_dir():
        return [(image, None) for image in found]
    by_stem = {path.stem: path for path in found_labels}
    if len(found) == len(found_labels) and {path.stem for path in found} == set(by_stem):
        return [(image, by_stem[image.stem]) for image in found]
    if len(found) != len(found_labels):
        raise DataError(_unpaired(images, labels))
    strangers = [
        (image, label)
        for image, label in zip(found, found_labels, strict=True)
        if not _belong_together(image, label)
    ]
    if strangers:
        listed = "\n".join(f"  - {image} and {label}" for image, label in strangers[:10])
        raise DataError(
            f"{images} and {labels}: {len(strangers)} of {len(found)} images, in sorted order, have"
            " labels of another name. Give each image and its labels the same file name (or the"
            f" same number in it):\n{listed}{_more(strangers)}"
        )
    return list(zip(found, found_labels, strict=True))


def _belong_together(image: Path, label: Path) -> bool:
    """Return whether two file names say that they belong together."""
    short, long = sorted((image.stem, label.stem), key=len)
    if re.search(rf"(?<![0-9A-Za-z]){re.escape(short)}(?![0-9A-Za-z])", long):
        return True
    numbers = [re.findall(r"\d+", path.stem)[-1:] for path in (image, label)]
    return bool(numbers[0]) and numbers[0] == numbers[1]


def _unpaired(images: Path, labels: Path) -> str:
    """Return the message that lists images without labels and labels without image."""
    found, found_labels = image_files(images), image_files(labels)
    without = [i for i in found if not any(_belong_together(i, x) for x in found_labels)]
    orphans = [x for x in found_labels if not any(_belong_together(i, x) for i in found)]
    lines = [f"  - {path}: no labels of that name in {labels}" for path in without]
    lines += [f"  - {path}: no image of that name in {images}" for path in orphans]
    listed = "".join(f"\n{line}" for line in lines[:10]) + _more(lines)
    return (
        f"{images} has {len(found)} images, {labels} has {len(found_labels)} labels; expected one"
        f" each. Add what is missing or move the rest away{':' if lines else ''}{listed}"
    )


def _more(entries: Sequence[object]) -> str:
    """Return how many entries beyond the tenth are not listed."""
    return f"\n  - and {len(entries) - 10} more" if len(entries) > 10 else ""

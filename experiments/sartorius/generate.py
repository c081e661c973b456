"""Make images of cells with annotations in the layout of the competition, to try everything out.

    python experiments/sartorius/generate.py --out competition --images 4

Cells are smooth star-like shapes whose number and size follow the published counts of the three
types (cort: 34 cells of 240 pixels on average in an image of 520 x 704 pixels, shsy5y: 337 of 225,
astro: 80 of 906); up to about one per cent of their pixels belong to two cells. Real neurites are
thinner and less smooth.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from instaseg.io.arrays import write_array  # noqa: E402
from instaseg.io.run_lengths import encode  # noqa: E402

SHAPE = (520, 704)


@dataclass(frozen=True)
class CellType:
    """How cells of a type look.

    Parameters
    ----------
    count : int
        Cells in an image of 520 x 704 pixels.
    area : float
        Their mean area in pixels.
    stretch : tuple of float
        Range of length over width.
    gap : float
        Largest share of a cell's pixels that may lie in cells drawn before.
    """

    count: int
    area: float
    stretch: tuple[float, float]
    gap: float


TYPES = {
    "cort": CellType(34, 240, (1.0, 1.8), 0.05),
    "shsy5y": CellType(337, 225, (1.2, 3.0), 0.07),
    "astro": CellType(80, 906, (1.2, 3.0), 0.08),
}


@dataclass(frozen=True)
class Cell:
    """One cell: the box that holds it, and its mask there."""

    box: tuple[slice, slice]
    mask: NDArray[np.bool_]


def draw_cells(
    kind: str, seed: int, *, shape: tuple[int, int] = SHAPE, overlaps: bool = True
) -> list[Cell]:
    """Return the cells of one image.

    Parameters
    ----------
    kind : {"cort", "shsy5y", "astro"}
        Size and density.
    seed : int
        Of everything drawn.
    shape : tuple of int
        Smaller images get fewer cells.
    overlaps : bool
        Whether cells may share pixels.
    """
    rng, kept = np.random.default_rng(seed), TYPES[kind]
    wanted = max(1, round(kept.count * shape[0] * shape[1] / (SHAPE[0] * SHAPE[1])))
    taken = np.zeros(shape, bool)
    cells: list[Cell] = []
    places: list[NDArray[np.float64]] = []
    for _ in range(500 * wanted):
        if len(cells) == wanted:
            break
        area = kept.area * rng.lognormal(-0.08, 0.4)
        centre = rng.uniform(0, shape)
        if places and rng.random() < 0.5:  # beside another cell, as in clusters
            away = rng.normal(size=2)
            away *= rng.uniform(1.2, 2.6) * np.sqrt(area / np.pi) / np.linalg.norm(away)
            centre = places[rng.integers(len(places))] + away
        cell = _draw_cell(rng, centre, area, stretch=rng.uniform(*kept.stretch), shape=shape)
        size = int(cell.mask.sum())
        shared = int((cell.mask & taken[cell.box]).sum())
        if size < 30 or shared > (kept.gap * size if overlaps else 0):
            continue
        cells.append(cell)
        places.append(centre)
        taken[cell.box] |= cell.mask
    return cells


def _draw_cell(
    rng: np.random.Generator,
    centre: NDArray[np.float64],
    area: float,
    *,
    stretch: float,
    shape: tuple[int, int],
) -> Cell:
    """Return one star-like cell; what lies outside of the image is cut off."""
    radius = np.sqrt(area / np.pi)
    reach = 1.6 * radius * np.sqrt(stretch)
    begin = np.clip(np.floor(centre - reach), 0, shape).astype(int)
    end = np.clip(np.ceil(centre + reach) + 1, 0, shape).astype(int)
    y, x = (np.arange(b, e) - c for b, e, c in zip(begin, end, centre, strict=True))
    turn = rng.uniform(0, np.pi)
    along = (y[:, None] * np.sin(turn) + x[None] * np.cos(turn)) / np.sqrt(stretch)
    across = (y[:, None] * np.cos(turn) - x[None] * np.sin(turn)) * np.sqrt(stretch)
    angle = np.arctan2(across, along)
    wobble = np.zeros_like(angle)
    for k in (2, 3, 4):
        wobble += rng.normal(0, 0.12 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    parts, _ = ndimage.label(np.hypot(along, across) < radius * (1 + wobble))
    sizes = np.bincount(parts.ravel(), minlength=2)
    mask = parts == 1 + int(np.argmax(sizes[1:]))
    return Cell((slice(begin[0], end[0]), slice(begin[1], end[1])), mask)


def as_layers(cells: Sequence[Cell], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Return cells as few layers of labels ``(L, y, x)`` in none of which two of them overlap."""
    layers = [np.zeros(shape, np.int32)]
    for number, cell in enumerate(cells, start=1):
        free = (layer for layer in layers if not layer[cell.box][cell.mask].any())
        layer = next(free, None)
        if layer is None:
            layer = np.zeros(shape, np.int32)
            layers.append(layer)
        layer[cell.box][cell.mask] = number
    return np.stack(layers)


def draw_image(cells: Sequence[Cell], shape: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """Return a grey image of cells: brighter rims on a noisy ground, as in phase contrast."""
    rng = np.random.default_rng(seed)
    image = np.full(shape, 128.0)
    for cell in cells:
        image[cell.box] += 12 * cell.mask + 25 * (cell.mask & ~ndimage.binary_erosion(cell.mask))
    image = ndimage.gaussian_filter(image, 1) + rng.normal(0, 5, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def arguments(command_line: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of train.csv and train/")
    parser.add_argument("--images", type=int, default=4, help="images of each type")
    parser.add_argument("--shape", type=int, nargs=2, default=SHAPE, help="rows and columns")
    return parser.parse_args(command_line)


def main(command_line: Sequence[str]) -> int:
    """Write the images and their annotations; return the exit code."""
    found = arguments(command_line)
    shape = (found.shape[0], found.shape[1])
    (found.out / "train").mkdir(parents=True, exist_ok=True)
    with (found.out / "train.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "annotation", "width", "height", "cell_type"])
        for number, kind in enumerate(kind for kind in TYPES for _ in range(found.images)):
            cells, name = draw_cells(kind, number, shape=shape), f"{kind}{number:04d}"
            image = draw_image(cells, shape, number)
            write_array(found.out / "train" / f"{name}.png", "", image)
            for cell in cells:
                mask = np.zeros(shape, bool)
                mask[cell.box] = cell.mask
                rows.writerow([name, encode(mask), shape[1], shape[0], kind])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

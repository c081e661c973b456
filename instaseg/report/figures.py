"""Figures without pyplot: no window, no global state, PNG bytes out."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's colours, which people with any colour vision can tell apart.
BLACK = "#222222"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
PINK = "#CC79A7"
GREY = "#8C8C8C"


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches that arranges its parts by itself."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Any) -> None:
    """Give axes a light grid and no frame at the top and right."""
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def png_bytes(figure: Figure, *, dpi: int) -> bytes:
    """Return the figure as a PNG file.

    Parameters
    ----------
    figure : Figure
        What is drawn.
    dpi : int
        Dots per inch.

    Returns
    -------
    bytes
    """
    file = io.BytesIO()
    # without the version in it the same figure always gives the same bytes
    figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return file.getvalue()


def save_figure(figure: Figure, path: Path, *, dpi: int) -> None:
    """Write the figure as PNG, under a temporary name first; its folder is made.

    Parameters
    ----------
    figure : Figure
        What is drawn.
    path : Path
        The file, ending in ``.png``; an older one is replaced.
    dpi : int
        Dots per inch.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(png_bytes(figure, dpi=dpi))
    os.replace(partial, path)

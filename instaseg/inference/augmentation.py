"""Test-time augmentation: predictions of turned images, turned back and averaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from instaseg.geometry import Symmetry, flips, identity, plane_rotations_and_flips

SYMMETRIES: dict[str, Callable[[int], list[Symmetry]]] = {
    "none": lambda ndim: [identity(ndim)],
    "flips": flips,
    "flips_and_rotations": plane_rotations_and_flips,
}


def symmetries(name: Literal["none", "flips", "flips_and_rotations"], ndim: int) -> list[Symmetry]:
    """Return the turned positions of that name for `ndim` axes, the identity first."""
    return SYMMETRIES[name](ndim)

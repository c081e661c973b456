"""Patches: every voxel predicts which voxels around it share its instance.

Names are loaded when they are first used: importing this package, or its ``config``, is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instaseg.methods.patches.assembly import assemble, rank_patches, sweep
    from instaseg.methods.patches.targets import patch_targets

__all__ = ["assemble", "patch_targets", "rank_patches", "sweep"]

_HOMES = {
    "assemble": "assembly",
    "rank_patches": "assembly",
    "sweep": "assembly",
    "patch_targets": "targets",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

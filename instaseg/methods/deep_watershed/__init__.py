"""Deep watershed: voxels predict how deep inside their instance they lie; a cut separates them.

Names are loaded when they are first used: importing this package, or its ``config``, is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instaseg.methods.deep_watershed.decoding import instances_from_energy
    from instaseg.methods.deep_watershed.targets import targets_from_labels

__all__ = ["instances_from_energy", "targets_from_labels"]

_HOMES = {"instances_from_energy": "decoding", "targets_from_labels": "targets"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

"""Channels: what stands at every voxel (foreground, contours, distances, flows ...), by a network.

Names are loaded when they are first used: importing this package, or its ``config``, is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instaseg.methods.channels.decoding import instances_from_channels
    from instaseg.methods.channels.targets import channels_from_labels

__all__ = ["channels_from_labels", "instances_from_channels"]

_HOMES = {"channels_from_labels": "targets", "instances_from_channels": "decoding"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

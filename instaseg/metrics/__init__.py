"""Scores of instances: overlaps, matching, centre lines, summaries, and a baseline to compare with.

The stable name is :func:`score_instances`. It is imported when it is first asked for, so that
``instaseg.metrics.config`` loads without numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instaseg.metrics.baseline import otsu_components
    from instaseg.metrics.scores import score_instances

__all__ = ["otsu_components", "score_instances"]


_PUBLIC = {
    "otsu_components": "instaseg.metrics.baseline",
    "score_instances": "instaseg.metrics.scores",
}


def __getattr__(name: str) -> Any:
    """Import a public function when it is first used."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)

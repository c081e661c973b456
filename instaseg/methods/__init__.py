"""The methods there are; one line per method is all that is needed to add one."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class MethodEntry:
    """Where a method's parts are, as ``module:Class``, so that listing methods imports none.

    Parameters
    ----------
    settings : str
        Table ``[method]``.
    labelling : str
        Table ``[vote_instances]``: what turns predictions into instances, and may be swept.
    implementation : str
        The class with the face of :class:`instaseg.methods.base.Method`.
    """

    settings: str
    labelling: str
    implementation: str


METHODS: dict[str, MethodEntry] = {
    "patches": MethodEntry(
        settings="instaseg.methods.patches.config:PatchesSettings",
        labelling="instaseg.methods.patches.config:LabelSettings",
        implementation="instaseg.methods.patches.method:PatchesMethod",
    ),
}


def load(reference: str) -> Any:
    """Return the object a ``module:Name`` reference of the table means."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)

"""Writing a configuration as TOML that loads back to the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from instaseg.io.text import to_toml
from instaseg.settings import Table


def config_to_toml(config: Table) -> str:
    """Return a configuration as TOML text, complete, with defaults.

    Keys without a value (None) are left out. Loading the text gives an equal configuration
    wherever it is written, because all paths in a loaded configuration are absolute.

    Parameters
    ----------
    config : Table
        A :class:`instaseg.config.schema.Config`, or any table.

    Returns
    -------
    str
        TOML, plain values only.
    """
    return to_toml(_plain(config.model_dump()))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value

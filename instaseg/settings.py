"""Base class of every table of the configuration.

Each component keeps its tables in its ``config.py``; :mod:`instaseg.config.schema` composes them.
"""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Table(BaseModel):
    """One TOML table: frozen, typed, unknown keys refused, a docstring under every field."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )


def _drop_flat_axis(value: object) -> object:
    """Return ``[y, x]`` for ``[1, y, x]``: 2-D data with a z axis of length one is 2-D."""
    if isinstance(value, (list, tuple)) and len(value) == 3 and value[0] == 1:
        return list(value[1:])
    return value


Shape = Annotated[tuple[int, ...], BeforeValidator(_drop_flat_axis)]
"""A shape in voxels, ``[y, x]`` or ``[z, y, x]``; ``[1, y, x]`` means ``[y, x]``."""

"""Base class of every table of the configuration.

Each component keeps its tables in its ``config.py``; :mod:`instaseg.config.schema` composes them.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Table(BaseModel):
    """One TOML table: frozen, typed, unknown keys refused, a docstring under every field."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    NOT_PREDICTED: ClassVar[Mapping[str, Any]] = {}
    """Keys of a method's table that change nothing in what a trained network predicts, because they
    are for training or for what comes after prediction; as pydantic's ``exclude`` names them."""

    OF_TYPE: ClassVar[Mapping[str, str]] = {}
    """Keys of a table ``[vote_instances]`` whose values validation may choose for each type of
    images, and the keys those values go to; such a table has a method ``for_type``."""


def _drop_flat_axis(value: object) -> object:
    """Return ``[y, x]`` for ``[1, y, x]``: 2-D data with a z axis of length one is 2-D."""
    if isinstance(value, (list, tuple)) and len(value) == 3 and value[0] == 1:
        return list(value[1:])
    return value


Shape = Annotated[tuple[int, ...], BeforeValidator(_drop_flat_axis)]
"""A shape in voxels, ``[y, x]`` or ``[z, y, x]``; ``[1, y, x]`` means ``[y, x]``."""

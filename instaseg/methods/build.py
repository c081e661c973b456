"""From the tables of a configuration to a method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from instaseg.data.config import DataSettings
from instaseg.methods import METHODS, load
from instaseg.methods.base import Method
from instaseg.models.config import ModelSettings
from instaseg.settings import Table


@dataclass(frozen=True)
class MethodSpec:
    """What a method is built from; unlike the method it travels to other processes.

    Parameters
    ----------
    settings : Table
        The ``[method]`` table, whose ``name`` chooses the class.
    model : ModelSettings
        The network's trunk.
    data : DataSettings
        Dimensions and channels of the images.
    """

    settings: Table
    model: ModelSettings
    data: DataSettings

    def build(self) -> Method:
        """Return the method."""
        implementation = load(METHODS[self.settings.model_dump()["name"]].implementation)
        return cast(Method, implementation(self.settings, model=self.model, data=self.data))

"""From the tables of a configuration to a method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

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

    @property
    def truth(self) -> Literal["labels", "points", "clefts"]:
        """What the ground truth has to be."""
        entry = METHODS[self.settings.model_dump()["name"]]
        if entry.truth is None:
            return "labels"
        return cast(Literal["labels", "points", "clefts"], load(entry.truth)(self.settings))

    def at(self, voxel_size: Sequence[float]) -> MethodSpec:
        """Return the same for images whose voxels have this physical size."""
        size = tuple(float(side) for side in voxel_size)
        return replace(self, data=self.data.model_copy(update={"voxel_size": size}))

    def build(self) -> Method:
        """Return the method."""
        implementation = load(METHODS[self.settings.model_dump()["name"]].implementation)
        return cast(Method, implementation(self.settings, model=self.model, data=self.data))

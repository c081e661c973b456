"""What tables ``[method]`` of several methods have in common."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from instaseg.settings import Table

MOST_INSTANCE_CLASSES = 254
"""Classes of instances that fit in a byte beside 0, no class, and 255, which masks use for it."""


class InstanceClassesSettings(Table):
    """``[method.instance_classes]``: of which class each instance is, by a head of its own.

    The voxels of an instance vote (stage `classify`).
    """

    count: Literal[0] | Annotated[int, Field(ge=2, le=MOST_INSTANCE_CLASSES)] = 0
    """Number of classes, background not counted: `data.class_key` has values from 1 to this, 0
    where the class is not known. 0 leaves instances without a class."""

    weight: float = Field(default=1.0, gt=0)
    """Weight of the class head's cross entropy beside the method's own loss."""

    class_weights: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """How much the voxels of each class count, from class 1 on; all alike where it is empty."""

    @model_validator(mode="after")
    def _one_weight_per_class(self) -> Self:
        if self.class_weights and len(self.class_weights) != self.count:
            raise ValueError(
                f"class_weights must have one number per class (count = {self.count});"
                f" got {list(self.class_weights)}"
            )
        return self

"""What tables ``[method]`` of several methods have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from instaseg.settings import Table

Problem = tuple[tuple[str, ...], str]
"""What is wrong with tables together: the place, such as ``("method", "gate")``, and a message."""

MOST_INSTANCE_CLASSES = 254
"""Classes of instances that fit in a byte beside 0, no class, and 255, which masks use for it."""


def without_effect(name: str, table: Table, keys: Iterable[str], why: str) -> Iterator[Problem]:
    """Yield a problem for each key that is not as it is left out though nothing looks at it.

    What is written as it is left out changes nothing: the configuration of an experiment has all.

    Parameters
    ----------
    name : str
        What the table is called, ``"method"`` or ``"vote_instances"``.
    table : Table
        The table.
    keys : iterable of str
        Its keys that nothing looks at.
    why : str
        What they have no effect with, for the message.
    """
    for key in dict.fromkeys(keys):
        value = getattr(table, key)
        if value != type(table).model_fields[key].get_default(call_default_factory=True):
            yield (name, key), f"has no effect with {why}; got {value!r}; remove it"


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

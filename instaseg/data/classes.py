"""Ground truth of classes: what the values of a mask mean.

::

    num_classes = 3, ignore = 255           num_classes = 2

    mask      0 1 2 255                     0 255      0 1      instance labels 0 7 9
    classes   0 1 2 ignored                 0  1       0 1      0 1 1 (objects = "instances")
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

IGNORED = -1
"""Class of voxels that are neither learnt from nor compared."""

WHITE = 255
"""In a mask of two classes this means class 1: many programs write masks as black and white."""


@dataclass(frozen=True)
class ClassMap:
    """What the values of a mask mean.

    Parameters
    ----------
    num_classes : int
        Number of classes, background included.
    ignore : int, optional
        Value of voxels without a class.
    objects : {"classes", "instances"}
        Whether values are classes, or labels of instances, all of class 1.
    """

    num_classes: int
    ignore: int | None = None
    objects: Literal["classes", "instances"] = "classes"

    @property
    def white_is_one(self) -> bool:
        """Whether 255 means class 1."""
        return self.num_classes == 2 and self.ignore != WHITE and self.objects == "classes"

    def apply(self, values: NDArray[Any]) -> NDArray[np.int16]:
        """Return the classes of some values, ``IGNORED`` where they have none.

        Examples
        --------
        >>> ClassMap(2).apply(np.array([0, 255])).tolist()
        [0, 1]
        >>> ClassMap(3, ignore=9).apply(np.array([2, 9])).tolist()
        [2, -1]
        """
        as_they_are = self.objects == "classes"
        classes: NDArray[np.int16] = (values if as_they_are else values != 0).astype(np.int16)
        if self.white_is_one:
            classes[values == WHITE] = 1
        if self.ignore is not None:
            classes[values == self.ignore] = IGNORED
        return classes

    def strangers(self, values: NDArray[Any]) -> list[int]:
        """Return which of some values, each listed once, mean nothing.

        Examples
        --------
        >>> ClassMap(3, ignore=9).strangers(np.array([0, 2, 3, 9]))
        [3]
        """
        if self.objects == "instances":
            return []
        allowed = [] if self.ignore is None else [self.ignore]
        if self.white_is_one and not (values == 1).any():
            allowed.append(WHITE)
        known = ((values >= 0) & (values < self.num_classes)) | np.isin(values, allowed)
        return [int(value) for value in values[~known]]

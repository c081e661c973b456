"""Tables ``[method]`` and ``[vote_instances]`` of the method ``semantic``, and what must agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from instaseg.data.classes import ClassMap
from instaseg.metrics.config import MOST_CLASSES, class_score_names
from instaseg.settings import Table


class SemanticSettings(Table):
    """``[method]``: the classes that the network of the method ``semantic`` tells apart."""

    name: Literal["semantic"] = "semantic"
    """Name of the method."""

    num_classes: int = Field(default=2, ge=2, le=MOST_CLASSES)
    """Number of classes, background included. Two classes make one channel with a sigmoid, more a
    softmax over one channel each."""

    objects: Literal["classes", "instances"] = "classes"
    """What the labels of `data.gt_key` are: the number of a class at every voxel, or `instances`,
    every one of which then is of class 1. Of two classes, 255 means class 1, as in black and white
    masks, unless there are voxels of value 1 too."""

    ignore_index: int | None = None
    """Value of voxels that are neither learnt from nor scored; none where it is left out."""

    ce_weight: float = Field(default=1.0, ge=0)
    """Weight in the loss of the cross entropy, which is binary for two classes."""

    dice_weight: float = Field(default=0.0, ge=0)
    """Weight in the loss of the soft Dice loss over the whole batch, the mean of all classes but
    the background."""

    class_weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    """Weight of the voxels of each class in the cross entropy, background first; all count the same
    where it is left out."""

    mask_bg_weight: float = Field(default=0.0, ge=0, le=1)
    """Weight in the loss of background where the mask says that labels are incomplete; labelled
    voxels always count 1."""

    @model_validator(mode="after")
    def _keys_fit(self) -> Self:
        problems = []
        if self.objects == "instances" and self.num_classes != 2:
            problems.append(
                'num_classes must be 2 where objects = "instances": all instances are of class 1;'
                f" got {self.num_classes}"
            )
        if self.ce_weight == 0 and self.dice_weight == 0:
            problems.append("ce_weight and dice_weight must not both be 0: nothing would be learnt")
        weights = self.class_weights
        if weights is not None and (len(weights) != self.num_classes or not any(weights)):
            problems.append(
                f"class_weights must be {self.num_classes} numbers, one per class, not all 0; got"
                f" {list(weights)}"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def class_map(self) -> ClassMap:
        """What the values of the labels mean."""
        return ClassMap(self.num_classes, self.ignore_index, self.objects)


class LabelSettings(Table):
    """``[vote_instances]``: how probabilities become classes."""

    threshold: Literal["otsu"] | Annotated[float, Field(ge=0, le=1)] = 0.5
    """Of two classes: probability above which a voxel is of class 1, or `otsu`, found anew for
    every whole image. Of more, the most probable class is taken."""

    output: Literal["classes", "probabilities", "both"] = "classes"
    """What `export` writes: the map of classes, the probability of each class, or both. `label`
    always writes the map; the probabilities are those that `predict` left."""


def disagreements(tables: Mapping[str, Table]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield place and message of what tables and ``[method]`` do not agree on.

    Parameters
    ----------
    tables : mapping
        Valid tables by name, some of which may be missing.
    """
    values = {name: table.model_dump() for name, table in tables.items()}
    num_classes = values["method"]["num_classes"]
    evaluation = values.get("evaluation")
    if evaluation is not None:
        yield from _wrong_names(evaluation, num_classes)
    label = values.get("vote_instances", {})
    if num_classes > 2 and label.get("threshold", 0.5) != 0.5:
        yield (
            ("vote_instances", "threshold"),
            f"is for two classes; got {label['threshold']} with method.num_classes ="
            f" {num_classes}, where the most probable class is taken; remove it",
        )
    sampling = values.get("training", {}).get("sampling", {})
    if sampling.get("probability_overlap", 0) > 0:
        yield (
            ("training", "sampling", "probability_overlap"),
            "must be 0 with the method 'semantic', which knows no instances that could overlap",
        )


def _wrong_names(
    evaluation: Mapping[str, Any], num_classes: int
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the scores of classes that there are not."""
    known = set(class_score_names(num_classes))
    for key, names in (("metric", [evaluation["metric"]]), ("summary", evaluation["summary"])):
        for name in names:
            if name not in known:
                yield (
                    ("evaluation", key),
                    f"must name a score of classes 0 to {num_classes - 1} (method.num_classes ="
                    f" {num_classes}); got {name!r}",
                )

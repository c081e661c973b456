"""The kinds of results there are; a line for each is what the stages dispatch on."""

from __future__ import annotations

from instaseg.methods.base import Result
from instaseg.stages.results import classes, instances, points
from instaseg.stages.results.kind import ResultKind

RESULTS: dict[Result, ResultKind] = {
    "instances": instances.KIND,
    "classes": classes.KIND,
    "points": points.KIND,
}

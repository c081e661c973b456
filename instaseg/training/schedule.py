"""The budget of a training, and the learning rate over it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from instaseg.training.config import TrainingSettings

_POLYNOMIAL_POWER = 0.9
_ONE_CYCLE_START = 1 / 25
_SECONDS_PER_MINUTE = 60.0


def budget_used(settings: TrainingSettings, iteration: int, seconds: float) -> float:
    """Return the share of the budget that is used up; 1 or more means that training has ended.

    Parameters
    ----------
    settings : TrainingSettings
        Budget in iterations and, perhaps, in minutes; whichever is nearer to its end counts.
    iteration : int
        Iterations done.
    seconds : float
        Time trained, over all runs.
    """
    used = iteration / settings.max_iterations
    if settings.max_minutes is not None:
        used = max(used, seconds / (settings.max_minutes * _SECONDS_PER_MINUTE))
    return used


def learning_rate_factor(settings: TrainingSettings, used: float) -> float:
    """Return what the learning rate is multiplied with when a share of the budget is used.

    Notes
    -----
    It rises in proportion during `warmup`; then, with ``q`` from 0 to 1 over the rest, it is 1
    (constant; plateau, whose reductions are :class:`instaseg.training.progress.Progress`'s),
    ``1 - q`` (linear), ``(1 + cos(pi q)) / 2`` (cosine, one_cycle) or ``(1 - q)^0.9`` (polynomial).
    With one_cycle it rises from 1/25 along a cosine (Smith and Topin 2018, arXiv:1708.07120).
    """
    if used < settings.warmup:
        risen = used / settings.warmup
        if settings.schedule == "one_cycle":
            return _ONE_CYCLE_START + (1 - _ONE_CYCLE_START) * (1 - math.cos(math.pi * risen)) / 2
        return risen
    rest = min(1.0, (used - settings.warmup) / (1.0 - settings.warmup))
    match settings.schedule:
        case "constant" | "plateau":
            return 1.0
        case "linear":
            return 1.0 - rest
        case "cosine" | "one_cycle":
            return (1.0 + math.cos(math.pi * rest)) / 2.0
        case "polynomial":
            return float((1.0 - rest) ** _POLYNOMIAL_POWER)

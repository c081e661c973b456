"""What validation losses say about the progress of a training: when to slow down, when to end."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from instaseg.training.config import TrainingSettings


@dataclass(frozen=True)
class Progress:
    """The lowest validation loss so far, and how long ago it was; kept with each checkpoint.

    Parameters
    ----------
    lowest : float
        Infinite before the first evaluation.
    iteration : int
        When it was found.
    waited : int
        Evaluations since then.
    waited_at_rate : int
        Evaluations since then, or since the learning rate was last reduced.
    reductions : int
        How often that was.
    """

    lowest: float = math.inf
    iteration: int = 0
    waited: int = 0
    waited_at_rate: int = 0
    reductions: int = 0

    def after(self, loss: float, iteration: int, settings: TrainingSettings) -> Progress:
        """Return what is known after another evaluation."""
        if loss < self.lowest:
            return Progress(loss, iteration, reductions=self.reductions)
        at_rate, reductions = self.waited_at_rate + 1, self.reductions
        if settings.schedule == "plateau" and at_rate >= settings.plateau_patience:
            at_rate, reductions = 0, reductions + 1
        return Progress(self.lowest, self.iteration, self.waited + 1, at_rate, reductions)

    def rate_factor(self, settings: TrainingSettings) -> float:
        """Return what the learning rate is multiplied with."""
        return float(settings.plateau_factor**self.reductions)

    def at_an_end(self, settings: TrainingSettings) -> bool:
        """Return whether training has waited long enough for a lower loss."""
        return 0 < settings.patience <= self.waited

    def to_dict(self) -> dict[str, float]:
        """Return plain numbers, for a checkpoint."""
        return asdict(self)

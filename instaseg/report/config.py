"""Table ``[visualize]``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from instaseg.settings import Table


class VisualizeSettings(Table):
    """What the report's pictures look like and how many there are."""

    max_samples: int = Field(default=12, ge=0)
    """Number of samples that get an overlay; fewer make the stage and the page faster."""
    order: Literal["worst_first", "by_name"] = "worst_first"
    """Which samples are shown, and in which order: those with the lowest score first, or the first
    by name."""
    threshold: float = Field(default=0.5, ge=0, lt=1)
    """Errors are drawn for matches whose score is larger than this."""
    percentiles: tuple[float, float] = (1.0, 99.8)
    """Percentiles of the image that are shown as black and white."""
    gamma: float = Field(default=0.7, gt=0)
    """Exponent of the brightness shown; below 1 makes dim objects easier to see."""
    plane: Literal["projection", "middle"] = "projection"
    """How volumes are shown: `projection`, the maximum along z with the outlines of the
    projected instances, or `middle`, the middle plane."""
    outline_width: float = Field(default=1.2, gt=0)
    """Width of outlines in points."""
    crops: int = Field(default=10, ge=1)
    """Number of training crops that `sample_pictures` draws."""
    dpi: int = Field(default=130, ge=30, le=600)
    """Dots per inch of the pictures; files grow with its square."""

    @model_validator(mode="after")
    def _check_percentiles(self) -> Self:
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(
                "percentiles must be two ascending numbers from 0 to 100; got"
                f" {list(self.percentiles)}"
            )
        return self

"""Table ``[postprocessing]``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from instaseg.settings import Table


class PostprocessingSettings(Table):
    """How instances are repaired, in this order: components, holes, small ones, numbering."""

    components: Literal["all", "largest"] = "all"
    """`largest` keeps only the largest connected part of every instance, `all` keeps every part."""
    fill_holes: Literal["none", "per_instance"] = "none"
    """`per_instance` gives background enclosed by one instance to that instance; what belongs to
    another instance stays."""
    remove_small_comps: int = Field(default=0, ge=0)
    """Instances of at most this many voxels are removed; 0 keeps all."""
    relabel: Literal["sequential", "keep"] = "sequential"
    """`sequential` numbers the instances that are left 1, 2, 3 ...; `keep` keeps their numbers."""

"""``--do validate``: the best parameters of one checkpoint."""

from __future__ import annotations

from instaseg.stages.context import Context
from instaseg.stages.selection import chosen_or_last
from instaseg.stages.validate_checkpoints import validate


def run(context: Context) -> str:
    """Score the parameter sets of the sweep for ``--checkpoint``, else for the last one."""
    return validate(context, [chosen_or_last(context)])

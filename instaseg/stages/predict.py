"""``--do predict``: the network over the test images."""

from __future__ import annotations

from instaseg.stages.context import Context
from instaseg.stages.predicting import predict_missing
from instaseg.stages.selection import select


def run(context: Context) -> None:
    """Predict every test sample that has no current prediction."""
    predict_missing(context, context.dataset("test"), select(context).checkpoint)

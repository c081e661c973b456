"""``--do decode``: patch codes to patches."""

from __future__ import annotations

import logging

from instaseg.stages.context import Context

logger = logging.getLogger(__name__)


def run(context: Context) -> None:
    """Say that this setup predicts patches, not codes: there is nothing to decode."""
    names = ", ".join(head.key for head in context.method.heads)
    logger.info("decode: this setup has no codes (its heads are %s); nothing to do", names)

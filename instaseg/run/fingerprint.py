"""Fingerprints: what a finished piece of work was made from.

Every array and score file carries the fingerprint of its inputs and settings. A stage that is
started again keeps what has the fingerprint it would give now, and redoes the rest.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from instaseg.settings import Table


def fingerprint(*parts: Any) -> str:
    """Return a digest of tables, numbers, strings and containers of them.

    Examples
    --------
    >>> fingerprint("a", [1.5, 2]) == fingerprint("a", [1, 5, 2])
    False
    """
    text = json.dumps([_plain(part) for part in parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _plain(part: Any) -> Any:
    if isinstance(part, Table):
        return part.model_dump(mode="json")
    return part

"""Tables: as text for the terminal, as CSV for everything else."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from instaseg.io.text import write_text


def text_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as aligned columns; numbers with three digits after the point, NaN as a dash.

    Examples
    --------
    >>> print(text_table([{"name": "a", "avS": 0.5}, {"name": "bcd", "avS": 12}]))
    name    avS
    a     0.500
    bcd      12
    """
    columns = list(rows[0]) if rows else []
    cells = [[_cell(row.get(name, "")) for name in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    numeric = [all(not isinstance(row.get(name), str) for row in rows) for name in columns]
    lines = [
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in [columns, *cells]
    ]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.3f}"
    return str(value)


def write_table(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the same keys as CSV, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(file, text.getvalue())

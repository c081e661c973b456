"""The configuration as documentation: ``python -m instaseg.config.describe`` writes it.

Everything comes from the classes: sentences from docstrings, types and defaults from the fields, so
that the page cannot say anything else than the program does (a test compares the two).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic.fields import FieldInfo

import instaseg
from instaseg.config.kinds import expected, show, table_class
from instaseg.config.removed import removed_keys
from instaseg.config.schema import METHOD_TABLES, build_schema, walk_tables
from instaseg.methods import METHODS
from instaseg.settings import Table

_HEAD = """# Configuration

<!-- Written by `python -m instaseg.config.describe` (or `make docs`); edit the classes instead. -->

A configuration is a TOML file. What is not in it has the default below. Highest precedence first:
flags of the command line, `--set table.key=value`, the later `--config`, the earlier one, what a
file `extends`, defaults. Tables are merged key by key; lists are replaced.

```toml
extends = "default.toml"      # optional, first line: another file, relative to this one

[training]
max_minutes = 30
```

Paths in a file are relative to the folder of that file, on the command line to the working
directory. All errors are reported at once. The configuration a run used is in its experiment
folder, complete, as `config.toml`.
"""


def describe(methods: Iterable[str] = tuple(METHODS)) -> str:
    """Return the documentation of all tables as Markdown.

    Parameters
    ----------
    methods : iterable of str
        Methods whose own tables are described after the common ones.

    Returns
    -------
    str
        The text of ``docs/config.md``.
    """
    names = list(methods)
    sections = [_HEAD, "## Tables of all methods\n"]
    common = build_schema(names[0])
    own = [name for name in METHOD_TABLES if name != "validation"]
    sections += [
        table_section(path, cls) for path, cls in walk_tables(common) if path[0] not in own
    ]
    for method in names:
        schema = build_schema(method)
        sections.append(f'## Method `{method}`\n\nWith `[method] name = "{method}"`.\n')
        sections += [
            table_section(path, cls) for path, cls in walk_tables(schema) if path[0] in own
        ]
    sections.append(_removed_section(common))
    return "\n".join(sections)


def table_section(path: Sequence[str], cls: type[Table]) -> str:
    """Return heading, sentence and keys of one table as Markdown."""
    keys = {name: info for name, info in cls.model_fields.items() if table_class(info) is None}
    lines = [f"### `[{'.'.join(path)}]`", "", _one_line(cls.__doc__ or ""), ""]
    if keys:
        lines += ["| key | expects | default | meaning |", "|---|---|---|---|"]
        lines += [_row(name, info) for name, info in keys.items()]
        lines.append("")
    return "\n".join(lines)


def _row(name: str, info: FieldInfo) -> str:
    shown = "not set" if info.default is None else f"`{show(info.default)}`"
    if info.is_required():
        shown = "required"
    cells = (
        f"`{name}`",
        expected(info.annotation, info.metadata),
        shown,
        _one_line(info.description or ""),
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _removed_section(schema: type[Table]) -> str:
    lines = ["## Keys of PatchPerPix that are gone", "", "| key or table | |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in sorted(removed_keys(schema).items())]
    return "\n".join([*lines, ""])


def _one_line(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def main() -> None:
    """Write ``docs/config.md`` of this source checkout, or the file named as argument."""
    default = Path(instaseg.__file__).parents[1] / "docs" / "config.md"
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    target.write_text(describe(), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The page about the configuration says what the classes say, and is fresh."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from instaseg.config.describe import describe, main, table_section
from instaseg.config.schema import build_schema, walk_tables
from instaseg.settings import Table

PAGE = Path(__file__).parents[2] / "docs" / "config.md"


class Small(Table):
    """What a small table is for,
    in one sentence.
    """

    needed: int = Field(ge=1)
    """Voxels."""
    mode: Literal["a", "b"] = "a"
    """`a` is one | the other."""
    limit: float | None = None
    """Seconds, left out
    for no limit."""


def test_a_table_is_a_heading_a_sentence_and_a_row_per_key():
    assert table_section(("outer", "small"), Small) == (
        "### `[outer.small]`\n"
        "\n"
        "What a small table is for, in one sentence.\n"
        "\n"
        "| key | expects | default | meaning |\n"
        "|---|---|---|---|\n"
        "| `needed` | a whole number of at least 1 | required | Voxels. |\n"
        '| `mode` | one of "a", "b" | `"a"` | `a` is one \\| the other. |\n'
        "| `limit` | a number | not set | Seconds, left out for no limit. |\n"
    )


def test_every_key_is_on_the_page():
    page = describe()
    for path, cls in walk_tables(build_schema("patches")):
        assert f"### `[{'.'.join(path)}]`" in page
        assert all(f"| `{name}` |" in page or f"{name}]`" in page for name in cls.model_fields)


def test_the_page_is_fresh():
    assert PAGE.read_text(encoding="utf-8") == describe(), "run: make docs"


def test_main_writes_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["describe", str(tmp_path / "page.md")])
    main()
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == describe()

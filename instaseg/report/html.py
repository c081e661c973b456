"""The report as one static page: scores, pictures, where they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

Cell = str | int | float


@dataclass(frozen=True)
class Picture:
    """One picture of the page.

    Parameters
    ----------
    path : str
        Relative to the page, with ``/``.
    caption : str
        Line below it.
    """

    path: str
    caption: str


@dataclass(frozen=True)
class Page:
    """What the report shows, top to bottom; parts that are empty are left out.

    Parameters
    ----------
    title : str
        Heading, for example the experiment's name.
    summary : sequence of str
        Lines below it: what was scored, with which checkpoint and parameters.
    scores : sequence of mapping
        Table of methods: the same columns in every row, the first one the name.
    curves : sequence of Picture
        Loss and score curves.
    samples : sequence of mapping
        Table of samples, as ``scores``.
    overlays : sequence of Picture
        One per sample.
    links : mapping of str to str
        Relative path of further files (configuration, tables, log) by what they are.
    provenance : mapping of str to str
        Versions, commit, seed, device, host ...
    """

    title: str
    summary: Sequence[str] = ()
    scores: Sequence[Mapping[str, Cell]] = ()
    curves: Sequence[Picture] = ()
    samples: Sequence[Mapping[str, Cell]] = ()
    overlays: Sequence[Picture] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)


_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .3rem; }
h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
p { margin: .2rem 0; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid var(--line); text-align: right; }
th { background: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
.scores tr:nth-child(2) td { font-weight: 700; }
figure { margin: 1rem 0; }
figcaption { font-size: .9rem; opacity: .8; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; }
dt { opacity: .75; } dd { margin: 0; overflow-wrap: anywhere; }
"""


def report_html(page: Page) -> str:
    """Return the page as HTML: no scripts, nothing loaded from elsewhere.

    Parameters
    ----------
    page : Page
        What it shows; all text is escaped.

    Returns
    -------
    str
        A complete document.
    """
    heading = escape(page.title)
    places = {picture.caption: f"overlay-{n}" for n, picture in enumerate(page.overlays, 1)}
    overlays = [_figure(picture, places[picture.caption]) for picture in page.overlays]
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{heading}</title>",
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{heading}</h1>",
        *(f"<p>{escape(line)}</p>" for line in page.summary),
        *_section("Scores", [*_table(page.scores, "scores"), *map(_figure, page.curves)]),
        *_section("Samples", [*_table(page.samples, "samples", places), *overlays]),
        *_section("Files", [_list({name: _link(path) for name, path in page.links.items()})]),
        *_section(
            "Where this came from",
            [_list({name: escape(text) for name, text in page.provenance.items()})],
        ),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _section(title: str, content: Sequence[str]) -> list[str]:
    """Return a heading and what stands below it; nothing where that is empty."""
    filled = [part for part in content if part]
    return [f"<h2>{escape(title)}</h2>", *filled] if filled else []


def _table(
    rows: Sequence[Mapping[str, Cell]], kind: str, places: Mapping[str, str] | None = None
) -> list[str]:
    """Return a table with one column for every key of the rows; cells link to their `places`."""
    if not rows:
        return []
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = (
        "<tr>" + "".join(_data_cell(row.get(name, ""), places or {}) for name in columns) + "</tr>"
        for row in rows
    )
    table = f'<table class="{kind}"><tr>{head}</tr>'
    return [f'<div class="table">{table}', *body, "</table></div>"]


def _data_cell(value: Cell, places: Mapping[str, str]) -> str:
    """Return a cell of a table, a link where its text has a place on the page."""
    text, place = _cell(value), places.get(str(value))
    return f"<td>{text}</td>" if place is None else f'<td><a href="#{place}">{text}</a></td>'


def _cell(value: Cell) -> str:
    """Return a value as text; numbers that are no counts with three decimals."""
    return f"{value:.3f}" if isinstance(value, float) else escape(str(value))


def _figure(picture: Picture, place: str = "") -> str:
    """Return a picture with its caption; `place` names it for links."""
    path, caption = escape(picture.path, quote=True), escape(picture.caption)
    image = f'<a href="{path}"><img src="{path}" alt="{caption}" loading="lazy"></a>'
    name = f' id="{place}"' if place else ""
    return f"<figure{name}>{image}<figcaption>{caption}</figcaption></figure>"


def _link(path: str) -> str:
    """Return a link to a file beside the page."""
    return f'<a href="{escape(path, quote=True)}">{escape(path)}</a>'


def _list(entries: Mapping[str, str]) -> str:
    """Return names and their HTML as a list of two columns; nothing where there are none."""
    if not entries:
        return ""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{html}</dd>" for name, html in entries.items())
    return f"<dl>{rows}</dl>"

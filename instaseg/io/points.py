"""Tables of points: sites of synapses, as ground truth and as results, and their CSV files.

A table is float64 ``(n, 4 + axes)``, one row per point::

    kind   [z,] y, x   probability   threshold   partner
    0 pre  position    of the peak   it passed   row of the presynaptic partner of a
    1 post in voxels   1 in truth    0 in truth  postsynaptic point, -1 where there is none
    2 cleft

Voxel `i` of an axis covers positions from ``i - 0.5`` to ``i + 0.5``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instaseg.io.text import write_text

Points = NDArray[np.float64]

KINDS = ("pre", "post", "cleft")
"""Names of the kinds of points; their numbers are the indices."""
PRE, POST, CLEFT = range(3)
NO_KIND = -1
"""Kind of rows that stand for nothing, see :func:`blank`."""

POINTS_KEY = "volumes/gt_points"
"""Array of a sample's table."""
COLUMNS_BESIDE_AXES = 4
_MOST_ROWS_NAMED = 5


def make_points(
    kinds: ArrayLike,
    positions: ArrayLike,
    *,
    probability: ArrayLike = 1.0,
    threshold: ArrayLike = 0.0,
    partner: ArrayLike = -1,
) -> Points:
    """Return a table of points.

    Parameters
    ----------
    kinds : int or (n,) int
        Numbers of the kinds.
    positions : (n, axes) float
        In voxels.
    probability, threshold : float or (n,) float
        Of the peaks; those of ground truth by default.
    partner : int or (n,) int
        Row of the presynaptic partner, -1 for none.

    Examples
    --------
    >>> make_points([0, 1], [[4, 5], [4, 7]], partner=[-1, 0]).tolist()
    [[0.0, 4.0, 5.0, 1.0, 0.0, -1.0], [1.0, 4.0, 7.0, 1.0, 0.0, 0.0]]
    """
    places = np.asarray(positions, dtype=np.float64)
    table = np.empty((len(places), places.shape[1] + COLUMNS_BESIDE_AXES))
    table[:, 0] = kinds
    table[:, 1:-3] = places
    table[:, -3] = probability
    table[:, -2] = threshold
    table[:, -1] = partner
    return table


def no_points(axes: int) -> Points:
    """Return a table without rows."""
    return make_points(0, np.zeros((0, axes)))


def positions(table: Points) -> NDArray[np.float64]:
    """Return the positions ``(n, axes)`` in voxels."""
    return table[:, 1:-3]


def rows_of(table: Points, kind: int) -> NDArray[np.intp]:
    """Return the rows of the points of a kind."""
    return np.flatnonzero(table[:, 0] == kind)


def partners(table: Points) -> NDArray[np.int64]:
    """Return every row's presynaptic partner, a row or -1."""
    return table[:, -1].astype(np.int64)


def connections(table: Points) -> NDArray[np.int64]:
    """Return the rows ``(m, 2)`` of every presynaptic point and a postsynaptic partner of it."""
    partner = partners(table)
    post = np.flatnonzero((table[:, 0] == POST) & (partner >= 0))
    return np.stack([partner[post], post], axis=1)


def select(table: Points, keep: NDArray[np.bool_]) -> Points:
    """Return some rows of a table; partners are numbered again, -1 where they are gone."""
    renumbered = np.where(keep, np.cumsum(keep) - 1, -1)
    partner = partners(table)
    chosen = table[keep].copy()
    mine = partner[keep]
    chosen[:, -1] = np.where(mine >= 0, renumbered[mine], -1)
    return chosen


def blank(table: Points, gone: NDArray[np.bool_]) -> Points:
    """Return a table in which some rows stand for nothing; unlike :func:`select` it keeps them.

    So all rows keep their numbers. A connection is gone if one of its points is.
    """
    kept, partner = table.copy(), partners(table)
    kept[gone, 0] = NO_KIND
    kept[(partner >= 0) & gone[partner], -1] = -1
    return kept


def faults(table: NDArray[Any], shape: Sequence[int]) -> Iterator[str]:
    """Yield what is wrong with a table that is ground truth of a volume of `shape` voxels.

    Refused are other columns than a table has, values that are not finite, unknown kinds,
    positions outside the volume, and partners that do not exist, are not presynaptic, or belong to
    a point that is not postsynaptic.
    """
    columns = len(shape) + COLUMNS_BESIDE_AXES
    if table.ndim != 2 or table.shape[1] != columns:
        axes = "z, y, x" if len(shape) == 3 else "y, x"
        yield (
            f"points have shape {table.shape}; expected (n, {columns}): kind, {axes}, probability,"
            " threshold, partner. Write them again, or set data.ndim"
        )
        return
    if not np.isfinite(table).all():
        rows = np.flatnonzero(~np.isfinite(table).all(axis=1))
        yield f"points: {_named(rows)} not finite; expected numbers. Remove or correct what is not"
        return
    kind, partner = table[:, 0], table[:, -1]
    unknown = np.flatnonzero(~np.isin(kind, range(len(KINDS))))
    if unknown.size:
        found = ", ".join(f"{value:g}" for value in np.unique(kind[unknown])[:_MOST_ROWS_NAMED])
        yield (
            f"points: {_named(unknown)} of kind {found}; expected 0 (pre), 1 (post) or 2 (cleft)."
            " Write them again"
        )
    place = positions(table)
    outside = np.flatnonzero(((place < -0.5) | (place > np.array(shape) - 0.5)).any(axis=1))
    for row in outside[:_MOST_ROWS_NAMED]:
        where = ", ".join(f"{value:g}" for value in place[row])
        yield (
            f"points: row {row} lies at ({where}), outside the volume of {tuple(shape)} voxels;"
            " expected positions in voxels. Check resolution and offset, or remove it"
        )
    if len(outside) > _MOST_ROWS_NAMED:
        yield f"points: {len(outside) - _MOST_ROWS_NAMED} more lie outside the volume"
    yield from _partner_faults(kind, partner)


def _partner_faults(kind: NDArray[np.float64], partner: NDArray[np.float64]) -> Iterator[str]:
    """Yield what is wrong with the partners."""
    whole = (partner == np.round(partner)) & (partner >= -1) & (partner < len(partner))
    gone = np.flatnonzero(~whole)
    if gone.size:
        yield (
            f"points: {_named(gone)} paired with a row that does not exist"
            f" ({partner[gone[0]]:g} of {len(partner)}); expected the row of a presynaptic point,"
            " or -1 for none. Correct the column partner"
        )
    paired = np.flatnonzero(whole & (partner >= 0))
    wrong = paired[kind[partner[paired].astype(int)] != PRE]
    if wrong.size:
        yield (
            f"points: {_named(wrong)} paired with a point that is not presynaptic"
            f" (row {partner[wrong[0]]:g}); expected the row of a presynaptic point, or -1 for"
            " none. Correct the column partner"
        )
    other = paired[kind[paired] != POST]
    if other.size:
        yield (
            f"points: {_named(other)} not postsynaptic but paired; expected a partner of"
            " postsynaptic points only, -1 elsewhere. Correct the column partner"
        )


def _named(rows: NDArray[np.intp]) -> str:
    """Return row numbers in words, with the verb."""
    if len(rows) == 1:
        return f"row {rows[0]} is"
    more = f" and {len(rows) - _MOST_ROWS_NAMED} more" if len(rows) > _MOST_ROWS_NAMED else ""
    return f"rows {', '.join(map(str, rows[:_MOST_ROWS_NAMED]))}{more} are"


def csv_lines(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    r"""Return a CSV file's text.

    Examples
    --------
    >>> csv_lines(["id", "axis-0"], [[3, 1.5]])
    'id,axis-0\n3,1.5\n'
    """
    return "".join(f"{','.join(map(_cell, row))}\n" for row in (header, *rows))


def _cell(value: object) -> str:
    """Return a value as text: whole numbers without a point, others with six digits."""
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value)


def write_points(table: Points, folder: Path, *, name: str) -> list[Path]:
    """Write a predicted table as CSV files.

    Parameters
    ----------
    table : (n, 4 + axes) float64
        A result of the method ``synapses``.
    folder : Path
        Made if it is not there.
    name : str
        The sample's; the files' names begin with it.

    Returns
    -------
    list of Path
        For every kind that occurs, and for pre and post always if one of them does,
        ``<name>_pred_<kind>_locations.csv`` with ``id`` (row of the table), ``axis-0`` ... (in
        voxels), ``probability`` and ``threshold``; with these also
        ``<name>_pre_post_mapping.csv`` with ``pre_id`` and ``post_id``, -1 where a point has no
        partner.
    """
    axes = [f"axis-{axis}" for axis in range(positions(table).shape[1])]
    kinds = set(table[:, 0].astype(int).tolist())
    if kinds & {PRE, POST}:
        kinds |= {PRE, POST}
    written = []
    for kind in sorted(kinds):
        file = folder / f"{name}_pred_{KINDS[kind]}_locations.csv"
        rows = [[int(row), *table[row, 1:-1].tolist()] for row in rows_of(table, kind)]
        write_text(file, csv_lines(["id", *axes, "probability", "threshold"], rows))
        written.append(file)
    if PRE in kinds:
        file = folder / f"{name}_pre_post_mapping.csv"
        write_text(file, csv_lines(["pre_id", "post_id"], mapping(table)))
        written.append(file)
    return written


def mapping(table: Points) -> list[list[int]]:
    """Return pairs of pre and post rows; those without a partner have -1 in its place.

    Examples
    --------
    >>> mapping(make_points([0, 1, 1, 0], np.zeros((4, 2)), partner=[-1, 0, -1, -1]))
    [[0, 1], [-1, 2], [3, -1]]
    """
    partner = partners(table)
    pairs = [[int(partner[post]), int(post)] for post in rows_of(table, POST)]
    used = set(partner.tolist())
    return pairs + [[int(pre), -1] for pre in rows_of(table, PRE) if int(pre) not in used]

"""Sites of synapses as the CREMI challenge stores them in HDF5 files.

::

    volumes/raw                                 (z, y, x), attribute resolution
    annotations/ids                             (n,)
    annotations/types                           (n,) presynaptic_site, postsynaptic_site
    annotations/locations                       (n, 3) physical z, y, x; attribute offset of the
                                                group annotations: where location 0 lies
    annotations/presynaptic_site/partners       (m, 2) ids of pre and post
    volumes/labels/clefts                       (z, y, x) uint64, painted clefts; 2^64 - 1 elsewhere

A file of this layout is a sample as it is. See https://cremi.org/data/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.errors import DataError
from instaseg.io import hdf_files
from instaseg.io.arrays import HDF_SUFFIXES, Reader, array_attributes, has_array, open_array
from instaseg.io.points import POST, PRE, Points, make_points

ANNOTATIONS = "annotations"
IDS, TYPES, LOCATIONS = (f"{ANNOTATIONS}/{name}" for name in ("ids", "types", "locations"))
PARTNERS = f"{ANNOTATIONS}/presynaptic_site/partners"
KIND_OF_TYPE = {"presynaptic_site": PRE, "postsynaptic_site": POST}


class PaintedClefts:
    """Labels of painted clefts presented with 0 where there is none.

    The challenge writes the greatest value of the type there, all bits of it ones. It means
    background in uint64, and in uint32, to which its files are often converted.

    Parameters
    ----------
    labels : Reader
        Labels as they are stored.
    """

    def __init__(self, labels: Reader) -> None:
        self._labels = labels
        self.shape: tuple[int, ...] = labels.shape
        self.dtype: np.dtype[Any] = labels.dtype
        self.chunks: tuple[int, ...] | None = labels.chunks
        self.attributes: Mapping[str, Any] = labels.attributes

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        block = self._labels[index]
        if self.dtype not in (np.uint32, np.uint64):
            return block
        return np.where(block == np.iinfo(self.dtype).max, self.dtype.type(0), block)


def has_annotations(path: Path) -> bool:
    """Return whether `path` is an HDF5 file with sites as CREMI stores them."""
    return path.suffix.lower() in HDF_SUFFIXES and has_array(path, LOCATIONS)


def read_sites(path: Path, raw_key: str) -> Points:
    """Return the sites of a file as a table of points, in voxels of its image.

    Presynaptic sites at one place are one site: the challenge lists some once for each partner.
    Other annotations than sites are left out.

    Parameters
    ----------
    path : Path
        HDF5 file.
    raw_key : str
        Its image; without an attribute ``resolution`` locations are in voxels.

    Returns
    -------
    (n, 7) float64
        See :mod:`instaseg.io.points`.

    Raises
    ------
    DataError
        If arrays are missing or do not belong together, or a partner does not exist.

    Notes
    -----
    A location `p` lies in the voxel ``floor((p + offset) / resolution)``, with the difference of
    the offsets of annotations and image; voxel `i` covers positions from ``i - 0.5`` on.
    """
    ids, types, locations = (_read(path, key) for key in (IDS, TYPES, LOCATIONS))
    if locations.ndim != 2 or not len(ids) == len(types) == len(locations):
        raise DataError(
            f"{path}: {IDS} {ids.shape}, {TYPES} {types.shape} and {LOCATIONS} {locations.shape}:"
            " expected (n,), (n,) and (n, 3) with the same n. Write the file again"
        )
    if locations.dtype.kind not in "iuf":
        raise DataError(
            f"{path}: {LOCATIONS} is of type {locations.dtype}; expected numbers. Write the file"
            " again"
        )
    names = [one.decode() if isinstance(one, bytes) else str(one) for one in types.tolist()]
    chosen = [row for row, name in enumerate(names) if name in KIND_OF_TYPE]
    kinds = np.array([KIND_OF_TYPE[names[row]] for row in chosen], dtype=np.int64)
    places = _in_voxels(path, raw_key, locations[chosen].astype(np.float64))
    partner = _partner_rows(path, ids[chosen].tolist(), kinds)
    return _merged(kinds, places, partner)


def _read(path: Path, key: str) -> NDArray[Any]:
    reader = open_array(path, key)
    return reader[tuple(slice(0, n) for n in reader.shape)]


def _in_voxels(path: Path, raw_key: str, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return physical places ``(n, 3)`` as positions in voxels."""
    raw = array_attributes(path, raw_key)
    resolution = np.ravel(raw.get("resolution", np.ones(places.shape[1])))
    offset = np.ravel(hdf_files.group_attributes(path, ANNOTATIONS).get("offset", 0.0))
    if len(resolution) != places.shape[1]:
        raise DataError(
            f"{path}: {raw_key} has resolution {resolution.tolist()}; expected"
            f" {places.shape[1]} numbers, as {LOCATIONS} has columns. Correct the attribute"
        )
    moved = places + offset - np.ravel(raw.get("offset", 0.0))
    return np.asarray(moved / resolution - 0.5, dtype=np.float64)


def _partner_rows(path: Path, ids: Sequence[int], kinds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the row of each site's presynaptic partner, -1 where it has none."""
    partner = np.full(len(ids), -1, dtype=np.int64)
    if not has_array(path, PARTNERS):
        return partner
    row_of = {number: row for row, number in enumerate(ids)}
    for pre, post in _read(path, PARTNERS).reshape(-1, 2).tolist():
        for number, kind, word in ((pre, PRE, "presynaptic"), (post, POST, "postsynaptic")):
            if number not in row_of or kinds[row_of[number]] != kind:
                raise DataError(
                    f"{path}: {PARTNERS} pairs {pre} with {post}, but {number} is no {word} site"
                    f" in {IDS}; correct or remove the pair"
                )
        if partner[row_of[post]] >= 0:
            raise DataError(
                f"{path}: {PARTNERS} gives site {post} two presynaptic partners; expected at most"
                " one. Remove one of the pairs"
            )
        partner[row_of[post]] = row_of[pre]
    return partner


def _merged(
    kinds: NDArray[np.int64], places: NDArray[np.float64], partner: NDArray[np.int64]
) -> Points:
    """Return the table of sites in which presynaptic sites at the same place are one."""
    first: dict[tuple[float, ...], int] = {}
    stands_for = np.arange(len(kinds))
    for row in np.flatnonzero(kinds == PRE).tolist():
        stands_for[row] = first.setdefault(tuple(places[row].tolist()), row)
    keep = stands_for == np.arange(len(kinds))
    new_row = np.cumsum(keep) - 1
    mine = partner[keep]
    renumbered = np.where(mine >= 0, new_row[stands_for[mine]], -1)
    return make_points(kinds[keep], places[keep], partner=renumbered)

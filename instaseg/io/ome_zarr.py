"""OME-Zarr: images in zarr groups whose metadata name axes, voxel sizes, and levels of detail.

The most detailed level is read, level 0. The metadata are those of NGFF 0.4 in zarr format 2, and
of 0.5 in format 3; older ones without axes are taken as (t, c, z, y, x)::

    <name>.ome.zarr/         .zattrs: multiscales -> axes, datasets [{path: "0", scale}, ...]
      0/  1/  2/             the levels
      labels/                .zattrs: labels -> ["cells"]
        cells/               .zattrs: multiscales
          0/  1/  2/

J. Moore et al., OME-NGFF: a next-generation file format for expanding bioimaging data-access
strategies, Nature Methods 18 (2021), https://doi.org/10.1038/s41592-021-01326-w;
https://ngff.openmicroscopy.org/0.4.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.errors import DataError
from instaseg.io import zarr_folders

_AXES = ("t", "c", "z", "y", "x")


@dataclass(frozen=True)
class Level:
    """One level of an image.

    Parameters
    ----------
    axes : tuple of str
        Name of each axis.
    scale : tuple of float
        Size of a voxel along each axis, in physical units.
    units : tuple of str
        Unit of each axis; ``voxel`` where there is none.
    """

    axes: tuple[str, ...]
    scale: tuple[float, ...]
    units: tuple[str, ...]


def level_key(path: Path, key: str) -> str | None:
    """Return the key of the most detailed level of the image in a group, None if it is no image.

    Parameters
    ----------
    path : Path
        Zarr folder.
    key : str
        A group in it; empty for the folder itself.
    """
    datasets = _multiscale(path / key).get("datasets")
    return "/".join([*([key] if key else []), str(datasets[0]["path"])]) if datasets else None


def label_key(path: Path) -> str | None:
    """Return the key of the labels of an image, None if it has none.

    Raises
    ------
    DataError
        If there are several.
    """
    names = _attributes(path / "labels").get("labels") or []
    if len(names) > 1:
        raise DataError(
            f"{path}: expected one label image, found {', '.join(map(str, names))} in labels; set"
            f" data.gt_key to one of them, such as 'labels/{names[0]}'"
        )
    return level_key(path, f"labels/{names[0]}") if names else None


def open_level(path: Path, key: str) -> OmeReader | None:
    """Open an array that is a level of an image; None if it is none.

    Raises
    ------
    DataError
        If the metadata do not fit the array, or it has several time points.
    """
    if not zarr_folders.has_array(path, key):
        return None
    folder = (path / key).resolve()
    for group in folder.parents:
        multiscale = _multiscale(group)
        for dataset in multiscale.get("datasets", ()):
            if (group / str(dataset["path"])).resolve() == folder:
                reader = zarr_folders.ZarrReader(path, key)
                return OmeReader(reader, _level(multiscale, dataset, len(reader.shape), folder))
        if group == path.resolve():
            break
    return None


class OmeReader:
    """An array with the axes, voxel sizes and units that its group names.

    Axes of length one other than y and x are left out.

    Parameters
    ----------
    reader : ZarrReader
        The array.
    level : Level
        What the group says of it.
    """

    def __init__(self, reader: zarr_folders.ZarrReader, level: Level) -> None:
        self._reader = reader
        pairs = list(zip(level.axes, reader.shape, strict=True))
        self._kept = [i for i, (name, n) in enumerate(pairs) if n > 1 or name in ("y", "x")]
        times = dict(pairs).get("t", 1)
        if times > 1:
            raise DataError(
                f"{reader.name}: expected one point in time, found {times} along axis t; write each"
                " as an image of its own"
            )
        self._level = level
        self.shape: tuple[int, ...] = tuple(reader.shape[i] for i in self._kept)
        self.dtype: np.dtype[Any] = reader.dtype
        chunks = reader.chunks
        self.chunks: tuple[int, ...] | None = (
            None if chunks is None else tuple(chunks[i] for i in self._kept)
        )

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Metadata of the array, with ``resolution``, ``axis_names`` and ``units``."""
        level, kept = self._level, self._kept
        return {
            **self._reader.attributes,
            "axis_names": [level.axes[i] for i in kept],
            "resolution": [level.scale[i] for i in kept],
            "units": [level.units[i] for i in kept],
        }

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        full = [slice(0, 1)] * len(self._level.axes)
        for axis, part in zip(self._kept, index, strict=True):
            full[axis] = part
        values = self._reader[tuple(full)]
        left_out = tuple(i for i in range(values.ndim) if i not in self._kept)
        return np.squeeze(values, axis=left_out)


def _level(
    multiscale: Mapping[str, Any], dataset: Mapping[str, Any], ndim: int, folder: Path
) -> Level:
    named = multiscale.get("axes") or _AXES[-ndim:]
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in named]
    if len(axes) != ndim:
        raise DataError(
            f"{folder}: expected {len(axes)} axes"
            f" ({', '.join(str(axis.get('name')) for axis in axes)}) as its group's multiscales"
            f" says, found {ndim}; write it again"
        )
    scale = np.ones(ndim)
    for transformation in (
        *dataset.get("coordinateTransformations", ()),
        *multiscale.get("coordinateTransformations", ()),
    ):
        if transformation.get("type") == "scale":
            scale = scale * _sides(transformation.get("scale"), ndim, folder)
    return Level(
        axes=tuple(str(axis.get("name")) for axis in axes),
        scale=tuple(scale.tolist()),
        units=tuple(str(axis.get("unit", "voxel")) for axis in axes),
    )


def _sides(stored: Any, ndim: int, folder: Path) -> NDArray[np.float64]:
    """Return the size of a voxel along each axis."""
    try:
        sides = np.array(stored, dtype=np.float64)
    except (TypeError, ValueError):
        sides = np.zeros(0)
    if sides.shape != (ndim,) or not np.all((sides > 0) & np.isfinite(sides)):
        raise DataError(
            f"{folder}: coordinateTransformations: expected a scale of {ndim} numbers above 0, one"
            f" for each axis, found {stored}; correct it"
        )
    return sides


def _multiscale(folder: Path) -> dict[str, Any]:
    """Return the image's metadata of a group, empty if it is no image."""
    found = _attributes(folder).get("multiscales") or [{}]
    image = found[0] if isinstance(found, list) else None
    datasets = (image.get("datasets") or []) if isinstance(image, dict) else None
    if not isinstance(datasets, list) or not all(
        isinstance(one, dict) and "path" in one for one in datasets
    ):
        raise DataError(
            f"{folder}: multiscales: expected a list of images, each with datasets that have a"
            f" path, found {json.dumps(found)}; write it again"
        )
    return dict(image or {})


def _attributes(folder: Path) -> dict[str, Any]:
    """Return the attributes of a group, those of OME where they have a place of their own."""
    for name in (".zattrs", "zarr.json"):
        file = folder / name
        if file.is_file():
            try:
                content = json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise DataError(
                    f"{file}: not valid JSON ({error}); the group is damaged, write it again"
                ) from error
            if name == ".zattrs":
                return dict(content)
            attributes = content.get("attributes", {})
            return dict(attributes.get("ome", attributes))
    return {}

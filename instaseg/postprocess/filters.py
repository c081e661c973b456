"""Which instances are removed and why, and the table that says so."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from instaseg.errors import DataError
from instaseg.geometry import Box
from instaseg.postprocess.channel import Channel, Instance, Layer
from instaseg.postprocess.config import PostprocessingSettings, Rule
from instaseg.postprocess.properties import Body, Perimeter, measure

MOST_VOXELS = 1 << 27
"""Voxels of an instance's bounding box up to which it is measured."""


@dataclass(frozen=True)
class Row:
    """What is known of one instance.

    Parameters
    ----------
    label : int
        Its label before the instances that are left are numbered.
    instance : Instance
        Size and bounding box.
    centroid : tuple of float
        Mean position of its voxels, in voxels; empty where nothing is measured.
    values : dict
        Its properties by name.
    reason : str
        Why it is removed; empty where it is kept.
    number : int
        Its label in the result; 0 where it is removed.
    """

    label: int
    instance: Instance
    centroid: tuple[float, ...]
    values: dict[str, float]
    reason: str
    number: int = 0


def judge(channel: Channel, settings: PostprocessingSettings) -> list[Row]:
    """Return the instances of a channel by label, measured, and whether they are removed.

    Each is measured in its bounding box, which alone must fit in memory.

    Raises
    ------
    DataError
        If an instance is too large to be measured.
    """
    found, rules, names = channel.instances(), settings.rules, settings.measured
    if not names:
        return [
            Row(label, one, (), {}, _reason(one, {}, settings, rules))
            for label, one in found.items()
        ]
    how = _How(channel.layer, channel.spacing, settings.perimeter, names)
    tasks = [_Group(how, box, tuple(ones)) for box, ones in _groups(channel, found).items()]
    measured = dict(one for of_one in channel.run(_measure, tasks, "measure") for one in of_one)
    rows = []
    for label, one in found.items():
        centroid, values = measured[label]
        rows.append(Row(label, one, centroid, values, _reason(one, values, settings, rules)))
    return rows


@dataclass(frozen=True)
class _How:
    """What is measured of instances, and where they are read."""

    layer: Layer
    spacing: tuple[float, ...]
    perimeter: Perimeter
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Group:
    """Instances, by label and bounding box, that are read together."""

    how: _How
    box: Box
    instances: tuple[tuple[int, Box], ...]

    def __str__(self) -> str:
        return f"instance {self.instances[0][0]} and those around it"


def _groups(channel: Channel, found: dict[int, Instance]) -> dict[Box, list[tuple[int, Box]]]:
    """Return what is read together: the instances inside one block; others by themselves."""
    groups: dict[Box, list[tuple[int, Box]]] = {}
    firsts = np.array([one.first for one in found.values()], np.int64)
    voxels = np.stack(np.unravel_index(firsts, channel.blocks.shape), axis=1)
    blocks = [channel.blocks.boxes[number] for number in channel.blocks.at(voxels).tolist()]
    for (label, one), block in zip(found.items(), blocks, strict=True):
        together = one.box.intersect(block) == one.box and np.prod(block.shape) <= MOST_VOXELS
        if len(channel.blocks) > 1 and np.prod(one.box.shape) > MOST_VOXELS:
            raise DataError(
                f"instance {label}: expected a bounding box of at most {MOST_VOXELS} voxels to"
                f" measure it, found {one.box.shape}; leave out postprocessing.measure and"
                " remove_where, or join less"
            )
        groups.setdefault(block if together else one.box, []).append((label, one.box))
    return groups


Measured = tuple[int, tuple[tuple[float, ...], dict[str, float]]]
"""Label, centroid and properties of an instance."""


def _measure(group: _Group) -> list[Measured]:
    """Return what is measured of the instances of a group."""
    values = group.how.layer.read(group.box)
    found = []
    for label, box in group.instances:
        mask = np.asarray(values[box.relative_to(group.box).slices] == label)
        body = Body(mask, group.how.spacing, group.how.perimeter)
        centroid = tuple(
            float(np.mean(places) + begin)
            for places, begin in zip(np.nonzero(mask), box.begin, strict=True)
        )
        found.append((label, (centroid, measure(body, group.how.names))))
    return found


def _reason(
    one: Instance,
    values: dict[str, float],
    settings: PostprocessingSettings,
    rules: Sequence[Sequence[Rule]],
) -> str:
    """Return why an instance is removed, empty where it is kept."""
    for group in rules:
        if all(rule.holds(values[rule.name]) for rule in group):
            return " and ".join(rule.text for rule in group)
    if one.size <= settings.remove_small_comps:
        return f"at most {settings.remove_small_comps} voxels (remove_small_comps)"
    return ""


@dataclass(frozen=True)
class Report:
    """All instances of a sample, those that are removed too.

    Parameters
    ----------
    channels : tuple of list of Row
        The instances of each channel; one list for a label image.
    names : tuple of str
        What was measured.
    ndim : int
        Number of spatial axes.
    """

    channels: tuple[list[Row], ...]
    names: tuple[str, ...]
    ndim: int

    def to_csv(self) -> str:
        """Return a table with one row per instance.

        Columns: channel (from 0) and label before numbering; label in the result, 0 where removed;
        centroid, begin and end of the bounding box in voxels, voxels counted from 0 and the end
        not included; what was measured; whether it was kept or removed, and by which rules.
        """
        axes = "zyx"[-self.ndim :]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        places = [f"{what}_{axis}" for what in ("centroid", "begin", "end") for axis in axes]
        writer.writerow(
            ["channel", "label", "result_label", *places, *self.names, "comment", "conditions"]
        )
        for channel, rows in enumerate(self.channels):
            for row in rows:
                box = row.instance.box
                numbers: list[Any] = [channel, row.label, row.number]
                numbers += [*row.centroid, *box.begin, *box.end]
                numbers += [_short(row.values[name]) for name in self.names]
                writer.writerow([*numbers, "removed" if row.reason else "kept", row.reason])
        return text.getvalue()


def _short(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def number(
    channels: Sequence[list[Row]], settings: PostprocessingSettings, dtype: np.dtype[Any]
) -> tuple[list[list[Row]], np.dtype[Any]]:
    """Return the rows of each channel with their labels in the result, and its type.

    Parameters
    ----------
    channels : sequence of list of Row
        By label.
    settings : PostprocessingSettings
        Whether the instances that are left get the numbers 1, 2, 3 ..., in the order of channel,
        then label.
    dtype : dtype
        Of the instances that came; a larger one is taken where it is too small.
    """
    start, numbered = 1, []
    for rows in channels:
        new = []
        for row in rows:
            label = start if settings.relabel == "sequential" else row.label
            new.append(row if row.reason else replace(row, number=label))
            start += not row.reason
        numbered.append(new)
    largest = max((row.number for rows in numbered for row in rows), default=0)
    room = 1 if dtype.kind == "b" else np.iinfo(dtype).max
    as_mask = dtype.kind == "b" and settings.relabel == "sequential"
    return numbered, np.min_scalar_type(largest) if as_mask or largest > room else dtype

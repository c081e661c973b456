"""How channels become instances: which set is decoded how, and with which thresholds.

Words and numbers only; arrays are worked on in :mod:`instaseg.methods.channels.decoding`. The order
of channels never matters. A channel's threshold is in the channel's own values; on which side of
it instances lie follows from its polarity (:mod:`instaseg.methods.channels.registry`)::

    set of channels --PRESETS--> roles: seeds, mask, flooded --settings--> Plan with numbers
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from instaseg.data.config import DataSettings
from instaseg.errors import ConfigError
from instaseg.methods.channels.config import (
    ChannelsSettings,
    LabelSettings,
    LengthTable,
    Threshold,
)
from instaseg.methods.channels.registry import Channel, channels_of
from instaseg.methods.config import Problem, without_effect
from instaseg.settings import Table

Decoder = Literal["watershed", "stars", "flow", "affinities"]
Side = Literal["above", "below"]
Background = Literal["none", "far", "unseeded", "outside"]

AREAS = ("foreground", "interior", "background")
"""Channels that say where instances are."""
EDGES = ("contour", "touching", "offsets")
"""Channels that are high between instances; of offsets, it is where they jump back."""
DEPTHS = ("distance", "signed_distance", "centre_distance", "neighbour_distance")
"""Channels that say how far inside its instance a voxel is."""
OFFSETS = ("offset_z", "offset_y", "offset_x")
"""Together they are ``offsets`` in the table of presets."""
ALONE = ("distance", "signed_distance")
"""Depths that also say where instances are."""
_ROLE_KEYS = ("seed_channels", "mask_channels", "flooded_channels")
"""Keys of ``[vote_instances]`` that name channels."""


@dataclass(frozen=True)
class Preset:
    """One way to decode; its sets have one channel of each of `parts`.

    Parameters
    ----------
    name : str
        BiaPy's letters where it has some, for messages and documentation.
    parts : tuple of tuple of str
        Alternatives for each channel of the set.
    seeds, mask, flooded : tuple of int
        Parts whose thresholds make seeds and the mask in which they grow, and the parts that are
        added up, low inside, to the map that is flooded.
    decoder : {"watershed", "stars", "flow", "affinities"}
        What makes instances of them; all but the first have their own use of seeds and flooded.
    background : {"none", "far", "unseeded", "outside"}
        What grows as background and is removed: nothing, what is far from seeds and contours,
        low regions of the ridge that hold no seed, or low regions that look like background.
    """

    name: str
    parts: tuple[tuple[str, ...], ...]
    seeds: tuple[int, ...]
    mask: tuple[int, ...]
    flooded: tuple[int, ...]
    decoder: Decoder = "watershed"
    background: Background = "none"


_B, _P, _R = ("interior",), ("centre",), ("ridge",)
_M = ("foreground", "background")

PRESETS: tuple[Preset, ...] = (
    Preset("BC, FC", (AREAS, EDGES), (0, 1), (0,), (1, 0)),
    Preset("BCM", (_B, EDGES, _M), (0, 1), (2,), (1, 0)),
    Preset("BCD, FCD", (AREAS, EDGES, DEPTHS), (0, 1, 2), (0,), (2,)),
    Preset("BCMD", (_B, EDGES, _M, DEPTHS), (0, 1, 3), (2,), (3,)),
    Preset("BD, FD", (AREAS, DEPTHS), (0, 1), (0,), (1,)),
    Preset("BMD", (_B, _M, DEPTHS), (0, 2), (1,), (2,)),
    Preset("BP, FP", (AREAS, _P), (1,), (0,), (0,)),
    Preset("BCP, FCP", (AREAS, EDGES, _P), (0, 1, 2), (0,), (1, 0)),
    Preset("FPD", (AREAS, _P, DEPTHS), (1,), (0,), (2,)),
    Preset("BM", (_B, _M), (0,), (1,), (0,)),
    Preset("BCDv2", (AREAS, ("contour", "touching"), _R), (0, 1, 2), (), (2,), background="far"),
    Preset("BDv2", (AREAS, _R), (0, 1), (), (1,), background="unseeded"),
    Preset("Dv2", (_R,), (0,), (), (0,), background="outside"),
    Preset("DVH", (ALONE, ("offsets",)), (0, 1), (0,), (1,)),
    Preset("F", (AREAS,), (0,), (0,), (0,)),
    Preset("D", (ALONE,), (0,), (0,), (0,)),
    Preset("C", (("contour",),), (0,), (0,), (0,)),
    Preset("DR", ((*ALONE, *AREAS), ("rays",)), (0,), (0,), (0,), "stars"),
    Preset("FDR", (AREAS, ALONE, ("rays",)), (1,), (0,), (1,), "stars"),
    Preset("FG", ((*AREAS, "signed_distance"), ("flow",)), (), (0,), (), "flow"),
    Preset("DG", (("distance",), ("flow",)), (), (0,), (), "flow"),
    Preset("FDG", (AREAS, DEPTHS, ("flow",)), (), (0,), (), "flow"),
    Preset("A", (("affinities",),), (0,), (0,), (0,), "affinities"),
    Preset("FA", (AREAS, ("affinities",)), (1,), (0,), (1,), "affinities"),
)
"""All sets that are decoded without further settings."""


@dataclass(frozen=True)
class Term:
    """A threshold on a channel.

    Parameters
    ----------
    channel : str
        Its name; ``offsets`` and ``affinities`` stand for maps that are made of them.
    threshold : float or {"otsu", "otsu_half"}
        In the channel's own values.
    side : {"above", "below"}
        On which side of it instances lie.
    """

    channel: str
    threshold: Threshold
    side: Side


@dataclass(frozen=True)
class Plan:
    """What is done with channels, with every default filled in.

    Parameters
    ----------
    decoder : {"watershed", "stars", "flow", "affinities"}
        What makes the instances.
    seeds, mask : tuple of Term
        Voxels for which all of them hold; an empty mask is everything.
    also : tuple of Term
        Voxels for which one of these holds are part of the mask too.
    sure : tuple of Term
        Voxels for which all of them hold may be an instance without a seed.
    growth_voxels, growth : int, float
        How much wider than its terms the mask is, which is what contours and distances take away
        from instances: in steps from face to face, then by a physical radius.
    flooded : tuple of (str, int)
        Channels and signs whose sum is low inside instances.
    smoothing : float
        Standard deviation, in physical units, of the bell curve that smooths this sum.
    smooth : {"everywhere", "mask"}
        Whether what lies outside the mask is left out of it: channels that are learnt in the
        foreground only mean nothing there.
    background : {"none", "far", "unseeded", "outside"}
        See :class:`Preset`.
    background_seed : Term, optional
        Voxels of which seeds of the background are made, where the ridge gives them.
    """

    decoder: Decoder
    seeds: tuple[Term, ...]
    mask: tuple[Term, ...]
    also: tuple[Term, ...]
    sure: tuple[Term, ...]
    growth_voxels: int
    growth: float
    flooded: tuple[tuple[str, int], ...]
    smoothing: float
    smooth: Literal["everywhere", "mask"]
    background: Background
    background_seed: Term | None


def words(names: Iterable[str]) -> frozenset[str]:
    """Return names of channels as a set in which ``offsets`` stands for its components.

    Examples
    --------
    >>> sorted(words(["offset_x", "foreground", "offset_y"]))
    ['foreground', 'offsets']
    """
    return frozenset("offsets" if name in OFFSETS else name for name in names)


def find_preset(names: Iterable[str]) -> tuple[Preset, tuple[str, ...]] | None:
    """Return the preset of a set of channels, and its channels in the order of the parts.

    Examples
    --------
    >>> preset, parts = find_preset(["contour", "foreground"])
    >>> preset.name, parts
    ('BC, FC', ('foreground', 'contour'))
    """
    wanted = words(names)
    for preset in PRESETS:
        found = [[one for one in part if one in wanted] for part in preset.parts]
        chosen = tuple(one for one, *_ in filter(None, found))
        if [len(each) for each in found] == [1] * len(wanted) and len(set(chosen)) == len(wanted):
            return preset, chosen
    return None


def decodable() -> str:
    """Return the sets that are decoded, in words: ``a|b + c`` is one of `a` and `b`, and `c`."""
    groups = {AREAS: "AREA", EDGES: "EDGE", DEPTHS: "DEPTH"}
    sets = (
        " + ".join(groups.get(part, "|".join(part)) for part in preset.parts) for preset in PRESETS
    )
    meaning = "; ".join(f"{name} is {'|'.join(part)}" for part, name in groups.items())
    return f"{', '.join(sets)} ({meaning})"


def make_plan(
    settings: ChannelsSettings, labelling: LabelSettings, spacing: Sequence[float]
) -> Plan:
    """Return what is done with the channels of a configuration.

    Parameters
    ----------
    settings : ChannelsSettings
        Table ``[method]``.
    labelling : LabelSettings
        Table ``[vote_instances]``.
    spacing : sequence of float
        Size of a voxel along each axis, in physical units.

    Raises
    ------
    ConfigError
        If the channels cannot be decoded, or a threshold is for a channel that is not there.
    """
    channels = channels_of(settings, len(spacing))
    for (table, *keys), message in _problems(settings, labelling, channels):
        raise ConfigError(f"[{table}] {'.'.join(keys)}: {message}")
    roles = _roles(labelling, settings.channels)
    foreground_only = {one.name for one in channels if one.learnt == "foreground"}
    make = _Terms(settings, labelling, {one.name: one for one in channels}, min(spacing))
    growth_voxels, growth = _growth(settings, roles, min(spacing))
    mask = [make.term(name, "mask") for name in roles.mask]
    if labelling.mask_distance is not None and not set(roles.mask) & set(DEPTHS):
        mask += [make.term(name, "mask") for name in roles.seeds if name in DEPTHS]
    ridge = roles.background in ("unseeded", "outside")
    return Plan(
        decoder=roles.decoder,
        seeds=tuple(make.term(name, "seed") for name in roles.seeds),
        mask=tuple(mask) if _has_mask(labelling, roles) else (),
        also=(Term("contour", 0.5, "above"),) if _contour_is_inside(settings, roles) else (),
        sure=tuple(make.term(name, "seed") for name in _sure_areas(roles)),
        growth_voxels=growth_voxels,
        growth=growth,
        flooded=tuple((name, make.sign(name)) for name in roles.flooded),
        smoothing=_smoothing(labelling, make, roles),
        smooth="mask" if set(roles.flooded) & foreground_only else "everywhere",
        background=roles.background,
        background_seed=make.term("ridge", "background") if ridge else None,
    )


def disagreements(tables: Mapping[str, Table]) -> Iterator[Problem]:
    """Yield what ``[method]`` and ``[vote_instances]`` do not agree on: the place, and the message.

    Parameters
    ----------
    tables : mapping of str to Table
        The tables of a configuration that are right by themselves, by name.
    """
    settings, labelling = tables.get("method"), tables.get("vote_instances")
    data = tables.get("data")
    if not isinstance(settings, ChannelsSettings) or not isinstance(labelling, LabelSettings):
        return
    if not isinstance(data, DataSettings):
        return
    try:
        channels = channels_of(settings, data.ndim)
    except ConfigError:
        return  # what does not fit the axes is reported by itself
    yield from _problems(settings, labelling, channels)


@dataclass(frozen=True)
class _Roles:
    """Channels by what they are for."""

    decoder: Decoder
    seeds: tuple[str, ...]
    mask: tuple[str, ...]
    flooded: tuple[str, ...]
    background: Background


def _roles(labelling: LabelSettings, names: Iterable[str]) -> _Roles:
    """Return the roles that the preset gives, replaced by those the settings name."""
    found = find_preset(names)
    seeds: tuple[str, ...] = ()
    mask, flooded = seeds, seeds
    decoder: Decoder = "watershed"
    background: Background = "none"
    if found is not None:
        preset, parts = found
        seeds = tuple(parts[n] for n in preset.seeds)
        mask = tuple(parts[n] for n in preset.mask)
        flooded = tuple(parts[n] for n in preset.flooded)
        decoder, background = preset.decoder, preset.background
    if labelling.seed_channels is not None:
        seeds, decoder = labelling.seed_channels, "watershed"
    if labelling.mask_channels is not None:
        mask = labelling.mask_channels
    if labelling.flooded_channels is not None:
        flooded, decoder = labelling.flooded_channels, "watershed"
    return _Roles(decoder, seeds, mask, flooded, background)


def _has_mask(labelling: LabelSettings, roles: _Roles) -> bool:
    """Return whether there is a mask: contours alone are one only where a threshold says so."""
    return roles.mask != ("contour",) or labelling.mask_contour is not None


def _problems(
    settings: ChannelsSettings, labelling: LabelSettings, channels: Sequence[Channel]
) -> Iterator[Problem]:
    """Yield what is wrong with channels and settings together: the place, and the message."""
    own = [getattr(labelling, key) for key in _ROLE_KEYS]
    if find_preset(settings.channels) is None and None in own:
        yield (
            ("method", "channels"),
            f"must be channels that can be decoded; got {', '.join(settings.channels)}; name"
            " seed_channels, mask_channels and flooded_channels in [vote_instances], or take one"
            f" of {decodable()}",
        )
        return
    there = words(settings.channels)
    roles = _roles(labelling, settings.channels)
    yield from _tables_without_channel(settings)
    wrong = [*_wrong_roles(labelling, settings.channels), *_missing_roles(labelling, roles)]
    yield from wrong
    if wrong:
        return
    yield from _without_effect(labelling, roles, there)
    yield from _unused_thresholds(labelling, roles, there)
    yield from _out_of_range(labelling, channels)
    yield from _unknown_area(labelling, roles, channels)
    ndim = 3 if any(len(one.context) == 3 for one in channels) else 2
    missing = sorted(set(OFFSETS[3 - ndim :]) - set(settings.channels))
    if "offsets" in there and missing:
        yield (
            ("method", "channels"),
            f"must have an offset along every axis; got {', '.join(settings.channels)}; add"
            f" {', '.join(missing)}",
        )


_FAMILIES = {
    "foreground": AREAS,
    "contour": EDGES,
    "distance": (*DEPTHS, "ridge"),
    "centre": ("centre",),
    "affinity": ("affinities",),
}
"""Channels that share the keys ``seed_<family>`` and ``mask_<family>``."""


_FAMILY = {name: family for family, names in _FAMILIES.items() for name in names}
"""Family of each channel that has one value at a voxel."""


def _wrong_roles(labelling: LabelSettings, names: Iterable[str]) -> Iterator[Problem]:
    """Yield a problem for each key with channels that cannot be what the key makes them."""
    there = words(names)
    keys = {key: getattr(labelling, key) or () for key in _ROLE_KEYS}
    for key, named in keys.items():
        if unknown := sorted(set(named) - there):
            yield (
                ("vote_instances", key),
                f"must be channels of the method ({', '.join(sorted(there))}); got"
                f" {', '.join(unknown)}; add it to method.channels or remove it",
            )
        elif several := [name for name in named if name not in _FAMILY]:
            yield (
                ("vote_instances", key),
                f"must be channels with one value at each voxel; got {', '.join(several)}; remove"
                " it, or leave out the key",
            )
    if "centre" in keys["mask_channels"]:
        yield (
            ("vote_instances", "mask_channels"),
            "must be channels that tell where instances end; got centre, which is the middle of"
            " them; name another, such as foreground",
        )


def _missing_roles(labelling: LabelSettings, roles: _Roles) -> Iterator[Problem]:
    """Yield a problem where there is nothing for what a decoder cannot do without."""
    if labelling.seed_channels == ():
        yield (
            ("vote_instances", "seed_channels"),
            "must be one channel or more; got []; name one, or leave out the key",
        )
    elif roles.decoder == "watershed" and not roles.seeds:
        yield (
            ("vote_instances", "flooded_channels"),
            "must be left out where a flow is followed, which has no seeds to flood from; got"
            f" {', '.join(roles.flooded) or '[]'}; remove it, or name seed_channels as well",
        )
    if roles.decoder in ("flow", "affinities") and not roles.mask:
        yield (
            ("vote_instances", "mask_channels"),
            f"must be one channel or more where channels are decoded by {roles.decoder}; got [];"
            " name one, or leave out the key",
        )


_FLOODING: tuple[Decoder, ...] = ("watershed", "affinities")
_SEEDED: tuple[Decoder, ...] = ("watershed", "stars", "affinities")
_DECODERS_OF: Mapping[str, tuple[Decoder, ...]] = {
    "seed_smoothing": _SEEDED,
    "surface_smoothing": _SEEDED,
    "seed_peaks": _SEEDED,
    "seed_steps": _SEEDED,
    "seed_radii": _SEEDED,
    "min_seed": _FLOODING,
    "unseeded": _FLOODING,
    "star_overlap": ("stars",),
    "star_peaks": ("stars",),
    "star_paint": ("stars",),
    "flow_steps": ("flow",),
    "sink_hits": ("flow",),
    "flow_error": ("flow",),
    "partition": ("affinities",),
}
"""Keys of ``[vote_instances]`` that not all decoders look at, and those that do."""
_BACKGROUNDS_OF: Mapping[str, tuple[Background, ...]] = {
    "max_object": ("outside",),
    "background_seeds": ("outside",),
    "background_radius": ("far", "unseeded"),
}
"""Keys that are about seeds of the background, and which seeds these are."""
_ABOUT_MASK = ("mask_steps", "mask_radii", "unseeded")
"""Keys that do nothing where instances may be everywhere."""


def _without_effect(
    labelling: LabelSettings, roles: _Roles, there: frozenset[str]
) -> Iterator[Problem]:
    """Yield a problem for each key of the decoder that nothing looks at."""
    unused = [key for key, decoders in _DECODERS_OF.items() if roles.decoder not in decoders]
    unused += [key for key, those in _BACKGROUNDS_OF.items() if roles.background not in those]
    if not roles.mask or not _has_mask(labelling, roles):
        unused += _ABOUT_MASK
    why = f"the channels {', '.join(sorted(there))}, which are decoded by {roles.decoder}"
    yield from without_effect("vote_instances", labelling, unused, why)


_LOOK_AT = {"contour": ("contour", "interior", "ridge"), "offset": OFFSETS}
"""Channels that look at a table which is not only for the channel of its name."""


_OF_NO_CHANNEL = ("border_weight", "instance_classes")
"""Tables that stand beside all channels."""


def _tables_without_channel(settings: ChannelsSettings) -> Iterator[Problem]:
    """Yield a problem for each key of a table that is for channels that are not there."""
    for name in (one for one in ChannelsSettings.model_fields if one not in _OF_NO_CHANNEL):
        table, users = getattr(settings, name), _LOOK_AT.get(name, (name,))
        if name == "contour" and settings.distance.border_of == "interior":
            users = (*users, "distance")
        if not isinstance(table, Table) or set(users) & set(settings.channels):
            continue
        sides = table.SIDES if isinstance(table, LengthTable) else {}
        for key, field in type(table).model_fields.items():
            value = getattr(table, key)
            # experiments of before lengths followed the voxel have the number in their files
            if value not in (field.default, sides.get(key)):
                yield (
                    ("method", name, key),
                    f"has no effect with the channels {', '.join(settings.channels)}; got"
                    f" {value!r}; remove it, or add {' or '.join(users)} to method.channels",
                )


def _unused_thresholds(
    labelling: LabelSettings, roles: _Roles, there: frozenset[str]
) -> Iterator[Problem]:
    """Yield a problem for each threshold of a channel that is not there, or not used."""
    used = {
        **{f"seed_{_FAMILY[name]}": name for name in roles.seeds},
        **{f"mask_{_FAMILY[name]}": name for name in roles.mask},
    }
    if roles.mask and there & set(DEPTHS):
        used["mask_distance"] = "distance"
    if roles.background in ("unseeded", "outside"):
        used["background_distance"] = "ridge"
    keys = [f"{role}_{family}" for role in ("seed", "mask") for family in _FAMILIES]
    for key in (*keys, "background_distance"):
        value = getattr(labelling, key, None)
        if value is not None and key not in used:
            yield (
                ("vote_instances", key),
                f"must be left out: with the channels {', '.join(sorted(there))} nothing is"
                f" compared with it; got {value!r}; thresholds that are used:"
                f" {', '.join(sorted(used)) or 'none'}",
            )


def _out_of_range(labelling: LabelSettings, channels: Sequence[Channel]) -> Iterator[Problem]:
    """Yield a problem for each threshold that lies beyond the values of all its channels."""
    for role in ("seed", "mask"):
        for family, names in _FAMILIES.items():
            value = getattr(labelling, f"{role}_{family}", None)
            known = [one for one in channels if one.name in names]
            if not known or not isinstance(value, (int, float)):
                continue
            low, high = min(one.low for one in known), max(one.high for one in known)
            if not low <= value <= high:
                yield (
                    ("vote_instances", f"{role}_{family}"),
                    f"must be a value of {', '.join(one.name for one in known)}, from {low:g} to"
                    f" {high:g}; got {value:g}",
                )


def _unknown_area(
    labelling: LabelSettings, roles: _Roles, channels: Sequence[Channel]
) -> Iterator[Problem]:
    """Yield a problem where nothing says where instances end and background begins."""
    mask = [one for one in channels if one.name in roles.mask]
    if not mask or not _has_mask(labelling, roles):
        return
    if all(one.learnt == "foreground" for one in mask):
        names = ", ".join(one.name for one in mask)
        yield (
            ("method", "channels"),
            f"must say where the foreground is; got {names}, learnt in the foreground only; add"
            ' foreground, or use method.distance.learnt = "everywhere"',
        )
    elif all(one.name in DEPTHS and one.polarity == "low_inside" for one in mask):
        yield (
            ("method", "channels"),
            "must say where the foreground is; got distance, which is 0 at centres and in the"
            ' background; add foreground, or use method.distance.polarity = "high_inside"',
        )


@dataclass(frozen=True)
class _Terms:
    """Makes thresholds: those of the settings, else the defaults of the channels."""

    settings: ChannelsSettings
    labelling: LabelSettings
    channels: Mapping[str, Channel]
    finest: float

    def term(self, name: str, role: Literal["seed", "mask", "background"]) -> Term:
        """Return the threshold of a channel in a role."""
        key = f"{role}_{_FAMILY[name]}"
        given: Threshold | None = getattr(self.labelling, key)
        if given is None and role == "background":
            return self.term(name, "seed")
        # the background's probability is one minus the foreground's, whose threshold is given
        if name == "background" and not isinstance(given, str):
            return Term(name, 1 - (self._default(name, role) if given is None else given), "below")
        side: Side = "below" if self.sign(name) > 0 else "above"
        shown = "any_affinity" if (name, role) == ("affinities", "mask") else name
        return Term(shown, self._default(name, role) if given is None else given, side)

    def sign(self, name: str) -> int:
        """Return 1 for channels that are low inside instances, else -1."""
        if name in ("offsets", "affinities"):
            return 1 if name == "offsets" else -1
        return 1 if self.channels[name].polarity == "low_inside" else -1

    def _default(self, name: str, role: Literal["seed", "mask", "background"]) -> float:
        """Return the threshold of a channel that settings leave out."""
        if name not in _SEEDS_AT:
            return _SURE.get(name, 0.5) if role == "seed" else 0.5
        scale = getattr(self.settings, name).scale
        if role == "mask":
            return _default_mask(name, scale, self.finest)
        if scale == "tanh":
            alpha = self.settings.signed_distance.length("alpha", (self.finest,))
            return math.tanh(_FIRST_INSIDE * self.finest / alpha)
        if scale == "instance" or name in ("ridge", "neighbour_distance"):
            depth = _SEEDS_AT[name]
            return depth if self.sign(name) < 0 else 1 - depth
        return self.finest * (_FIRST_INSIDE if self.sign(name) < 0 else _NEAR_MIDDLE)


_SURE = {"foreground": 0.8, "interior": 0.8, "background": 0.8, "contour": 0.2}
"""Probabilities at which seeds begin, where that is not 0.5: trained networks are that sure."""
_SEEDS_AT = {
    "distance": 0.4,
    "signed_distance": 0.4,
    "ridge": 0.4,
    "centre_distance": 0.7,
    "neighbour_distance": 0.5,
}
"""Part of the way from border to middle at which seeds begin, where scaled by instance."""
_FIRST_INSIDE = 1.5
"""Distance in voxels that border voxels, which are one voxel away from others, do not have."""
_NEAR_MIDDLE = 3.0
"""Distance in voxels from the middle, or from the depth there, at which seeds end."""


def _default_mask(name: str, scale: str, finest: float) -> float:
    """Return the depth at which instances begin."""
    if name == "signed_distance":
        return 0.0
    # voxels at a border have a distance of one voxel; scaled by instance, they have 0
    return 0.5 * finest if scale == "physical" else 0.05


def _sure_areas(roles: _Roles) -> tuple[str, ...]:
    """Return the channels that say where instances are: of the mask, else of the seeds."""
    of_mask = tuple(name for name in roles.mask if name in AREAS)
    return of_mask or tuple(name for name in roles.seeds if name in AREAS)


def _growth(settings: ChannelsSettings, roles: _Roles, finest: float) -> tuple[int, float]:
    """Return how far the mask lies inside instances: voxels of contours, and a physical length."""
    contour, distance = settings.contour, settings.distance
    alone = roles.mask == ("distance",)
    # scaled by instance, voxels as near to the border as any are 0: by the shortest side
    cut = finest if alone and distance.scale == "instance" else 0.0
    inner = roles.mask == ("interior",) or (alone and distance.border_of == "interior")
    if _contour_is_inside(settings, roles) or not inner or contour.mode in ("outer", "dense"):
        return 0, cut
    if contour.mode == "dense_legacy":
        return 2, cut
    if contour.thickness is not None:
        return 0, max(cut, contour.thickness)
    return 1, cut


def _contour_is_inside(settings: ChannelsSettings, roles: _Roles) -> bool:
    """Return whether contours are part of instances, and are predicted."""
    return (
        roles.mask == ("interior",)
        and "contour" in settings.channels
        and settings.contour.mode == "inner"
    )


def _smoothing(labelling: LabelSettings, make: _Terms, roles: _Roles) -> float:
    """Return the standard deviation that smooths the surface.

    One voxel; but none for channels that rise up to borders one voxel wide, which it would level.
    """
    if labelling.surface_smoothing is not None:
        return labelling.surface_smoothing
    sharp = any(name in _SEEDS_AT and make.sign(name) > 0 for name in roles.flooded)
    return 0.0 if sharp else make.finest

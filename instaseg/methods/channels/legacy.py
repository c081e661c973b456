"""BiaPy's letters: what each version's letters mean in names of channels and in settings.

The same letter means different things in different versions, so nothing is assumed: see
``docs/methods/channels.md``. Letters until 3.5 are written as one text (``"BCDv2"``), later ones as
a list; here both ways are read for all of them, the longest letter first (``Dv2`` before ``D``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Generation = Literal["biapy_before_3.0", "biapy_3.0_to_3.5", "biapy_from_3.6"]
"""Versions of BiaPy whose letters mean the same."""

GENERATIONS: tuple[Generation, ...] = get_args(Generation)

Implied = Mapping[str, Mapping[str, Any]]
"""Keys by table of ``[method]`` that a letter implies."""


@dataclass(frozen=True)
class Meaning:
    """What letters mean.

    Parameters
    ----------
    names : tuple of str
        Channels, by name.
    settings : mapping
        Keys that differ from the defaults, by table of ``[method]``.
    losses : tuple of str
        Loss of each channel; empty where each has its own.
    """

    names: tuple[str, ...]
    settings: Implied = field(default_factory=dict)
    losses: tuple[str, ...] = ()


def translate(words: Sequence[str], names: Sequence[str], generation: Generation | None) -> Meaning:
    """Return the channels that names and letters mean, in their order.

    Parameters
    ----------
    words : sequence of str
        Names, letters, or texts of several letters.
    names : sequence of str
        All names of channels.
    generation : str, optional
        The versions whose letters they are.

    Raises
    ------
    ValueError
        If a word is neither, if letters come without `generation`, if a letter has no counterpart,
        or if the same channel comes twice.
    """
    texts = [word for word in words if word not in names]
    if texts and generation is None:
        _refuse_without_generation(texts, names)
    assert generation is not None or not texts
    tokens = [
        token
        for word in words
        for token in ([word] if word in names else letters_in(word, generation or GENERATIONS[0]))
    ]
    found: list[str] = []
    settings: dict[str, dict[str, Any]] = {}
    for name, implied in _meanings(tokens, names, generation):
        if name in found:
            raise ValueError(f'channels: every channel once; got "{name}" twice: {list(words)}')
        found.append(name)
        for table, keys in implied.items():
            settings.setdefault(table, {}).update(keys)
    # StarDist (doi:10.1007/978-3-030-00934-2_30) learns the distance like a probability.
    rays = set(tokens) == {"Db", "R"}
    losses = tuple(_WITH_RAYS[name] for name in found) if rays else ()
    return Meaning(tuple(found), settings, losses)


def letters_in(text: str, generation: Generation) -> list[str]:
    """Return the letters a text consists of, the longest ones first.

    Raises
    ------
    ValueError
        If a part of it is no letter of these versions.

    Examples
    --------
    >>> letters_in("BCDv2", "biapy_3.0_to_3.5")
    ['B', 'C', 'Dv2']
    """
    known = sorted((*_LETTERS[generation], *_REFUSED[generation], *_FLOW), key=len, reverse=True)
    if generation != "biapy_from_3.6":
        known = [letter for letter in known if letter not in _FLOW]
    rest, found = text, []
    while rest:
        letter = next((one for one in known if rest.startswith(one)), None)
        if letter is None:
            raise ValueError(
                f'channels: "{rest}" in "{text}" is neither a channel nor a letter of'
                f' letters = "{generation}"; its letters are {", ".join(sorted(known))}'
            )
        found.append(letter)
        rest = rest[len(letter) :]
    return found


def _refuse_without_generation(texts: Sequence[str], names: Sequence[str]) -> None:
    """Say that letters need their version, or that a word is neither name nor letter."""
    from difflib import get_close_matches

    for text in texts:
        if not any(_readable(text, generation) for generation in GENERATIONS):
            near = get_close_matches(text, names, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            raise ValueError(
                f'channels: unknown channel "{text}"{hint}; channels are {", ".join(names)},'
                " or BiaPy's letters"
            )
    raise ValueError(
        f"channels: {', '.join(texts)} are BiaPy's letters, which mean different things in its"
        " versions (B is the interior until 3.5 and the background from 3.6; D is high at centres"
        " before 3.0, low there until 3.5, and signed from 3.6); add letters ="
        f" {' or '.join(f'{chr(34)}{one}{chr(34)}' for one in GENERATIONS)}, or write names of"
        " channels"
    )


def _readable(text: str, generation: Generation) -> bool:
    try:
        letters_in(text, generation)
    except ValueError:
        return False
    return True


def _meanings(
    tokens: Sequence[str], names: Sequence[str], generation: Generation | None
) -> list[tuple[str, Implied]]:
    """Return name and implied settings of each token; the letters of a flow become one."""
    found: list[tuple[str, Implied]] = []
    flow = [token for token in tokens if token in _FLOW]
    for token in tokens:
        if token in names:
            found.append((token, {}))
        elif token in _FLOW:
            if token == flow[0]:
                found.append(("flow", {}))
        else:
            assert generation is not None
            reason = _REFUSED[generation].get(token)
            if reason:
                raise ValueError(f'channels: letter "{token}" of "{generation}": {reason}')
            found.append(_LETTERS[generation][token](tokens))
    if flow and not {"Gv", "Gh"} <= set(flow):
        raise ValueError(
            f"channels: a flow is Gv and Gh, in volumes with Gz; got {', '.join(flow)}; add the"
            ' others, or name the channel "flow"'
        )
    return found


_Rule = Callable[[Sequence[str]], tuple[str, Implied]]


def _always(name: str, keys: Mapping[str, Any] | None = None) -> _Rule:
    """Return a rule that does not depend on other letters: a channel, and keys of its table."""
    implied: Implied = {} if keys is None else {name: keys}
    return lambda _tokens: (name, implied)


def _b_until_3_5(tokens: Sequence[str]) -> tuple[str, Implied]:
    """Return what B is: without contours, unless none are made."""
    with_contour = "C" in tokens or "Dv2" in tokens
    return ("interior" if with_contour else "foreground"), {}


def _d_3_0_to_3_5(tokens: Sequence[str]) -> tuple[str, Implied]:
    """Return what D is: the inverted distance to the border of B."""
    border_of = "interior" if "C" in tokens else "instance"
    settings = {"scale": "physical", "polarity": "low_inside", "border_of": border_of}
    return "distance", {"distance": settings}


def _db_from_3_6(tokens: Sequence[str]) -> tuple[str, Implied]:
    """Return what Db is: with rays it is learnt in the background, too."""
    return "distance", {"distance": {"learnt": "everywhere"}} if "R" in tokens else {}


_FLOW = ("Gv", "Gh", "Gz")
_PHYSICAL = {"scale": "physical"}
_WITH_RAYS = {"distance": "bce", "rays": "l1"}

_LETTERS: dict[Generation, dict[str, _Rule]] = {
    "biapy_before_3.0": {
        "B": _b_until_3_5,
        "C": _always("contour"),
        "M": _always("foreground"),
        "P": _always("centre"),
        "D": _always("distance", {**_PHYSICAL, "polarity": "high_inside"}),
        "Dv2": _always("ridge", {"scale": "image"}),
    },
    "biapy_3.0_to_3.5": {
        "B": _b_until_3_5,
        "C": _always("contour"),
        "M": _always("foreground"),
        "P": _always("centre"),
        "D": _d_3_0_to_3_5,
        "Dv2": _always("ridge"),
        "A": _always("affinities"),
    },
    "biapy_from_3.6": {
        "F": _always("foreground"),
        "B": _always("background"),
        "C": _always("contour"),
        "P": _always("centre", {"radius": 1.0}),
        "H": _always("offset_x"),
        "V": _always("offset_y"),
        "Z": _always("offset_z"),
        "Db": _db_from_3_6,
        "Dc": _always("centre_distance"),
        "Dn": _always("neighbour_distance"),
        "D": _always("signed_distance"),
        "R": _always("rays"),
        "T": _always("touching"),
        "A": _always("affinities", {"widen_borders": 1}),
    },
}

_SYNAPSES = 'it belongs to synapses; use name = "synapses"'

_REFUSED: dict[Generation, dict[str, str]] = {
    "biapy_before_3.0": {},
    "biapy_3.0_to_3.5": {"F": _SYNAPSES},
    "biapy_from_3.6": {
        "M": "foreground and contour together have no counterpart; use F and C",
        "We": "it is a weight, not a channel; use [method.border_weight]",
        "E": "embeddings are not available; use F with flow, rays or affinities",
        "I": "labels are always there; remove it",
        "F_pre": _SYNAPSES,
        "F_post": _SYNAPSES,
        "F_cleft": _SYNAPSES,
    },
}

"""The rules of :mod:`instaseg.config.import_biapy` for channels: what is learnt, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from instaseg.config.import_biapy_augmentation import Tables
from instaseg.config.import_biapy_decoding import decoding
from instaseg.config.import_biapy_postprocessing import growth
from instaseg.errors import ConfigError
from instaseg.methods.channels.config import CHANNEL_NAMES
from instaseg.methods.channels.legacy import letters_in, translate
from instaseg.methods.channels.presets import AREAS

if TYPE_CHECKING:
    from instaseg.config.import_biapy import Source

_SEG = "PROBLEM.INSTANCE_SEG."
_VERSIONS = {
    "biapy_before_3.0": "BiaPy before 3.0",
    "biapy_3.0_to_3.5": "BiaPy 3.0 to 3.5",
    "biapy_from_3.6": "BiaPy from 3.6",
}


def channels(source: Source, data: Tables) -> Tables:
    """Translate instance segmentation by channels.

    Parameters
    ----------
    source : Source
        The keys of the file.
    data : Tables
        Table ``data`` with the number of axes; it is part of the result.

    Raises
    ------
    ConfigError
        If the letters mean nothing here.
    """
    words = source.take(f"{_SEG}DATA_CHANNELS", "DATA.CHANNELS", default=["F", "C"])
    words = [words] if isinstance(words, str) else [str(word) for word in words]
    _refuse_torn(words)
    try:
        meaning = translate(words, CHANNEL_NAMES, source.letters)
    except ValueError as error:
        raise ConfigError(f"{_SEG}DATA_CHANNELS: {error}") from error
    source.remark(
        f"{_SEG}DATA_CHANNELS",
        f"{', '.join(words)} as in {_VERSIONS[source.letters]}: {', '.join(meaning.names)}"
        f"{_changed(words, source)}",
    )
    implied = {"losses": list(meaning.losses)} if meaning.losses else {}
    method = {"name": "channels", "channels": list(meaning.names), **implied}
    tables: Tables = {**data, "method": method | _losses(source, words)}
    tables |= {f"method.{name}": dict(keys) for name, keys in meaning.settings.items()}
    _adapt_targets(source, tables)
    _add_instance_classes(source, tables)
    tables["vote_instances"] = decoding(source, tables)
    if source.take(f"{_SEG}WATERSHED_BY_2D_SLICES", f"{_SEG}WATERSHED.BY_2D_SLICES", default=False):
        source.remark(
            f"{_SEG}WATERSHED_BY_2D_SLICES",
            "volumes are flooded as a whole; give sections as images of their own (data.ndim = 2)",
        )
    return tables | growth(source, meaning.names)


def _refuse_torn(words: Sequence[str]) -> None:
    """Refuse what BiaPy's own converter makes of texts with ``Dv2``."""
    if "v" in words and "2" in words:
        raise ConfigError(
            f"{_SEG}DATA_CHANNELS: expected letters of channels, found {', '.join(words)}, which is"
            " what BiaPy's converter makes of a text with Dv2; write the text again, such as BCDv2,"
            " and give the versions it was written for with --letters"
        )


def _changed(words: Sequence[str], source: Source) -> str:
    """Return which letters mean something else in other versions, in words."""
    text, later = "".join(words), source.letters == "biapy_from_3.6"
    notes = []
    if "B" in text:
        notes.append(
            "B is the background here, until 3.5 it was the inside of instances"
            if later
            else "B leaves contours out where there are some, F of later versions does not"
        )
    if "Dv2" in text:
        notes.append(
            "Dv2 is scaled to each instance here and falls to 0 at ridge.cap outside: another"
            " target than BiaPy's, which was"
            + (
                " scaled by the largest distances of the image, which crops do not show"
                if source.letters == "biapy_before_3.0"
                else " not a number in these versions"
            )
        )
    elif "D" in text:
        notes.append(
            "D was the distance inside until 2.x, inverted from 3.0, and signed from 3.6; name"
            " other versions with --letters"
        )
    return "".join(f"; {note}" for note in notes)


def _add_instance_classes(source: Source, tables: Tables) -> None:
    """Translate classes of instances: theirs count the background, ours do not."""
    classes = int(source.take("DATA.N_CLASSES", "MODEL.N_CLASSES", default=2))
    if classes <= 2:
        return
    keys: dict[str, Any] = {"count": classes - 1}
    weights = source.values.get(f"{_SEG}DATA_CHANNEL_WEIGHTS")
    if isinstance(weights, list) and len(weights) > len(tables["method"].get("weights", weights)):
        keys["weight"] = float(weights[-1])
    tables["method.instance_classes"] = keys
    tables["data"]["label_channels"] = "labels_and_classes"
    source.remark(
        "DATA.N_CLASSES", f"{classes} with the background: {classes - 1} classes of instances"
    )


_LOSSES = {"bce": "bce", "ce": "bce", "l1": "l1", "mae": "l1", "mse": "mse"}


def _losses(source: Source, words: Sequence[str]) -> dict[str, Any]:
    """Translate weights and losses of channels, and the balance within them."""
    found: dict[str, Any] = {}
    weights = _per_channel(source, "DATA_CHANNEL_WEIGHTS", words, float)
    if weights:
        found["weights"] = weights
    losses = _per_channel(source, "DATA_CHANNELS_LOSSES", words, lambda name: str(name).lower())
    unknown = sorted(set(losses) - set(_LOSSES))
    if unknown:
        source.remark(
            f"{_SEG}DATA_CHANNELS_LOSSES",
            f"{', '.join(unknown)} is not available; the channel's own loss is taken",
        )
    if losses:
        found["losses"] = [_LOSSES.get(loss, "default") for loss in losses]
    within = source.take(f"{_SEG}CLASS_REBALANCE_WITHIN_CHANNELS")
    before = source.take("LOSS.CLASS_REBALANCE", default=False)
    if within if within is not None else before not in (False, "none", "None"):
        found["class_balance"] = "batch"
    elif within is None and source.letters == "biapy_from_3.6":
        source.remark(
            f"{_SEG}CLASS_REBALANCE_WITHIN_CHANNELS",
            'not given: on from 3.7, off in 3.6 and here; method.class_balance = "batch" turns it'
            " on",
        )
    return found


_FLOW = ("Gv", "Gh", "Gz")


def _per_channel(
    source: Source, key: str, words: Sequence[str], read: Callable[[Any], Any]
) -> list[Any]:
    """Return one value for each channel of ours; none, and a remark, where there is not one."""
    values = source.take(f"{_SEG}{key}")
    if not isinstance(values, list) or not values:
        if values not in (None, []):
            source.remark(f"{_SEG}{key}", f"expected a list, found {values}; left out")
        return []
    tokens = [letter for word in words for letter in _letters(word, source)]
    if len(values) == len(tokens) + 1:  # the last is of the class head
        values = values[:-1]
    if len(values) != len(tokens):
        source.remark(
            f"{_SEG}{key}",
            f"expected {len(tokens)} values for {', '.join(tokens)}, found {len(values)}; left out",
        )
        return []
    groups: dict[str, list[Any]] = {}
    for token, value in zip(tokens, values, strict=True):
        groups.setdefault("flow" if token in _FLOW else token, []).append(read(value))
    torn = groups.get("flow", [])
    if len(set(torn)) > 1:
        source.remark(
            f"{_SEG}{key}",
            f"the letters of a flow are one channel here, with one value; found {torn}; left out,"
            f" set method.{'weights' if key.endswith('WEIGHTS') else 'losses'}",
        )
        return []
    return [found[0] for found in groups.values()]


def _letters(word: str, source: Source) -> list[str]:
    return [word] if word in CHANNEL_NAMES else letters_in(word, source.letters)


def _adapt_targets(source: Source, tables: Tables) -> None:
    """Change the tables of channels as other keys, or what can be learnt from crops, ask for."""
    names = tables["method"]["channels"]
    if "method.ridge" in tables:
        tables["method.ridge"]["scale"] = "instance"  # "image" cannot be learnt from crops
    masked = source.take(f"{_SEG}DISTANCE_CHANNEL_MASK", default=True)
    needed = "flow" in names and not {*AREAS, "signed_distance"} & {*names}
    if needed or (not masked and "distance" in names):
        # There the mask of a flow is the distance, which then has to be learnt everywhere.
        tables.setdefault("method.distance", {})["learnt"] = "everywhere"
    mode = _options(source, tables)
    _weigh_borders(source, tables)
    if mode is None or mode == "thick":
        return
    ours = {"inner": "inner", "outer": "outer", "dense": _DENSE[source.letters]}.get(mode)
    if ours is None or (mode == "dense" and {"interior", "contour", "foreground"} == set(names)):
        source.remark(_MODE, f"{mode} is not available with these channels; thick is taken")
    elif {"contour", "interior", "ridge"} & {*names}:
        tables.setdefault("method.contour", {})["mode"] = ours
    else:
        source.remark(_MODE, "is not used with these channels; left out")


_MODE = f"{_SEG}DATA_CONTOUR_MODE"
_DENSE = {
    "biapy_before_3.0": "dense_legacy",
    "biapy_3.0_to_3.5": "dense_legacy",
    "biapy_from_3.6": "dense",
}
"""What became of ``dense``, which from 3.6 is the background next to the foreground."""


_OPTIONS: dict[tuple[str, str], tuple[str, str, dict[Any, Any] | None]] = {
    ("R", "nrays"): ("rays", "number", None),
    ("Db", "val_type"): ("distance", "scale", {"norm": "instance", "raw": "physical"}),
    ("Db", "mask_values"): ("distance", "learnt", {True: "foreground", False: "everywhere"}),
}
"""Options of letters from 3.6: our table, key, and values where they are called otherwise."""


def _options(source: Source, tables: Tables) -> str | None:
    """Translate options of letters; return what belongs to a contour.

    That is a key of its own until 3.5, and an option of ``C`` from 3.6.
    """
    mode = source.take(_MODE)
    options = source.take(f"{_SEG}DATA_CHANNELS_EXTRA_OPTS", default=[])
    for group in options if isinstance(options, list) else [options]:
        for letter, keys in group.items() if isinstance(group, Mapping) else ():
            given = dict(keys) if isinstance(keys, Mapping) else {}
            if letter == "C":
                mode = given.pop("mode", mode)
            left = [
                str(key) for key, value in given.items() if not _option(letter, key, value, tables)
            ]
            if left:
                source.remark(
                    f"{_SEG}DATA_CHANNELS_EXTRA_OPTS",
                    f"{letter}: {', '.join(left)} not translated; see the channel's own"
                    " table below [method]",
                )
    return None if mode is None else str(mode)


def _option(letter: str, key: str, value: Any, tables: Tables) -> bool:
    """Translate one option of a letter; return whether it has a counterpart."""
    table, ours, values = _OPTIONS.get((letter, key), ("", "", None))
    if values is not None:
        value = values.get(value)
    if not table or value is None:
        return False
    tables.setdefault(f"method.{table}", {})[ours] = value
    return True


def _weigh_borders(source: Source, tables: Tables) -> None:
    """Translate the weight of background between instances, as large as for the first U-Net."""
    kind = source.take(f"{_SEG}BORDER_EXTRA_WEIGHTS", default="")
    if kind == "unet-like":
        tables["method.border_weight"] = {"strength": 10.0}
    elif kind:
        source.remark(f"{_SEG}BORDER_EXTRA_WEIGHTS", f"{kind} is not available; left out")

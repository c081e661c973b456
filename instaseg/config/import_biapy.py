"""From a configuration of BiaPy (YAML) to one of this program (TOML), with a report.

Every key of the file is either translated, or named in the report with what to do about it; letters
of channels are those of the version the file was written for. Names of BiaPy's keys, their defaults
and meaning are from its documentation (Franco-Barranco et al. 2025,
doi:10.1038/s41592-025-02699-y).
"""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import yaml

from instaseg.config.import_biapy_tables import SECTIONS
from instaseg.config.load import load_config
from instaseg.config.schema import Config
from instaseg.errors import ConfigError
from instaseg.inference.augmentation import symmetries
from instaseg.io.text import to_toml
from instaseg.methods.base import Head
from instaseg.methods.build import MethodSpec
from instaseg.methods.channels.legacy import Generation

Symmetries = Literal["none", "flips", "flips_and_rotations"]
GENERATIONS: tuple[Generation, ...] = get_args(Generation)
_VERSION = re.compile(r"^#\s*BiaPy version:\s*(\d+)\.(\d+)", re.MULTILINE)


@dataclass
class Source:
    """The keys of a file, crossed out as they are read, and what there is to say about them.

    Parameters
    ----------
    values : dict
        By dotted name.
    letters : str
        The versions whose letters of channels and defaults count.
    """

    values: dict[str, Any]
    letters: Generation
    read: set[str] = field(default_factory=set)
    remarks: list[str] = field(default_factory=list)

    def take(self, *names: str, default: Any = None) -> Any:
        """Return the value of the first key that is there, cross all of them out."""
        self.read.update(names)
        return next((self.values[name] for name in names if name in self.values), default)

    def has(self, name: str) -> bool:
        """Return whether a key is there; it is not crossed out."""
        return name in self.values

    def remark(self, key: str, text: str) -> None:
        """Say what is to be known about a key."""
        self.remarks.append(f"{key}: {text}")

    def unread(self) -> Iterator[str]:
        """Yield the keys that nobody has asked for."""
        yield from (name for name in self.values if name not in self.read)


@dataclass(frozen=True)
class Imported:
    """A translated configuration.

    Parameters
    ----------
    toml : str
        Text that :func:`instaseg.config.load.load_config` accepts.
    remarks : tuple of str
        What changed its meaning, has no counterpart, or is to be looked at, a line for each key.
    """

    toml: str
    remarks: tuple[str, ...]


def import_biapy(file: Path, *, letters: Generation | None = None) -> Imported:
    """Return a BiaPy configuration as one of this program.

    Parameters
    ----------
    file : Path
        YAML. A file of before 3.6 has its channels as one text, a later one as a list.
    letters : str, optional
        Versions of BiaPy the file was written for, where it does not tell, or not rightly.

    Raises
    ------
    ConfigError
        If the file cannot be read, or means something that this program has not.
    """
    text = _read(file)
    source = Source(_flat(_parsed(file, text)), letters or "biapy_from_3.6")
    if letters is None:
        source.letters = _generation(source, text)
    try:
        tables = _translated(source)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    except _NOT_READ as error:
        raise ConfigError(f"{file}: {_misread(source)} ({error}); mend it") from error
    for key in source.unread():
        source.remark(key, _answer(key))
    config = _load(file, tables)
    best = _possible_symmetries(source, config, _heads(file, config))
    if best != config.prediction.symmetries:
        tables["prediction"]["symmetries"] = best
    return Imported(to_toml(tables), tuple(source.remarks))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{file}: expected a YAML configuration of BiaPy, it cannot be read ({reason}); check"
            " the path"
        ) from error


def _parsed(file: Path, text: str) -> Mapping[str, Any]:
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{file}: not valid YAML ({reason}); mend it") from error
    if not isinstance(tree, Mapping) or "PROBLEM" not in tree:
        raise ConfigError(
            f"{file}: expected a YAML configuration of BiaPy with a section PROBLEM, found none; is"
            " it another file?"
        )
    return tree


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return values by dotted name; texts that stand for tuples and numbers become these."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= _flat(value, f"{name}.")
        else:
            found[name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            return value
    return list(value) if isinstance(value, tuple) else value


def _generation(source: Source, text: str) -> Generation:
    """Return the versions that a file was written for, as its keys or its first comment tell."""
    channels = source.values.get("PROBLEM.INSTANCE_SEG.DATA_CHANNELS")
    if "DATA.CHANNELS" in source.values:
        return "biapy_before_3.0"
    if isinstance(channels, list):
        return "biapy_from_3.6"
    if isinstance(channels, str):
        return "biapy_3.0_to_3.5"
    version = _VERSION.search(text)
    if version is not None and (int(version[1]), int(version[2])) < (3, 6):
        return "biapy_3.0_to_3.5"
    return "biapy_from_3.6"


def _translated(source: Source) -> dict[str, Any]:
    """Return the tables of all sections that there are rules for."""
    tables: dict[str, Any] = {}
    for section in SECTIONS:
        for name, keys in section(source).items():
            _put(tables, name.split("."), keys)
    return tables


_NOT_READ = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What comes of a value of another kind or length than the rules expect."""


def _misread(source: Source) -> str:
    """Return which key has a value of another kind: the file is translated without it."""
    for key in source.values:
        rest = {name: value for name, value in source.values.items() if name != key}
        try:
            _translated(Source(rest, source.letters))
        except (ConfigError, *_NOT_READ):
            continue
        return f"{key}: expected a value as BiaPy has it, found {source.values[key]!r}"
    return "expected values as BiaPy has them, found several of another kind"


def _put(tables: dict[str, Any], path: list[str], keys: Mapping[str, Any]) -> None:
    """Add keys to the table with a dotted name."""
    for name in path:
        tables = tables.setdefault(name, {})
    tables.update(keys)


# By the beginning of a key; the longest counts.
_NO_COUNTERPART = {
    "SYSTEM": "set with --device and --workers, or in [general]; left out",
    "PATHS": "results lie below --root; left out",
    "LOG": "losses are always logged; left out",
    "DATA.CHECK_GENERATORS": "training writes snapshots of crops (training.snapshots); left out",
    "DATA.REFLECT_TO_COMPLETE_SHAPE": "small images are always mirrored; left out",
    "DATA.TRAIN": "crops are drawn at random from the images, in memory where they fit; left out",
    "DATA.VAL": "validation works on whole images; left out",
    "DATA.TEST.LOAD_GT": "labels are read where they lie beside the images; left out",
    "DATA.TEST": "tiles overlap by as much as the network sees, without seams; left out",
    "DATA.PREPROCESS": "images are not preprocessed; prepare them, or use data.object_size",
    "DATA.NORMALIZATION": "see [data.normalization]",
    "AUGMENTOR": "no such augmentation, or no such detail of it; see [training.augmentation]",
    "MODEL": "the network is a U-Net described by [model]; left out",
    "LOSS": "the loss belongs to the method; see [method]",
    "TRAIN": "see [training] and [optimizer]; left out",
    "TEST.POST_PROCESSING": "see [postprocessing]",
    "TEST.FULL_IMG": "the result is that of the whole image, tile by tile; left out",
    "TEST.ANALIZE_2D_IMGS_AS_3D_STACK": 'set data.ndim = 3 and data.stack = "z"; left out',
    "TEST.EVAL_BORDER_CROP": "instances at the border are compared as all others; left out",
    "TEST.BY_CHUNKS": "large volumes are always worked on in blocks; left out",
    "TEST.STATS": "whole images are predicted tile by tile; left out",
    "TEST.MATCHING_STATS": "scores at 0.5, 0.55 ... 0.95 are always computed; left out",
    "TEST.MATCHING_STATS_THS": "those but 0.5, 0.55 ... 0.95 belong in evaluation.thresholds",
    "TEST": "say with --do which stages run; left out",
    "PROBLEM": "not translated; see docs/methods",
}


def _answer(key: str) -> str:
    """Return what to do about a key that has no rule."""
    known = _answers().get(key.rpartition(".")[2])
    if known is not None and key.startswith(("PROBLEM", "TEST.POST_PROCESSING", "TEST")):
        return f"not translated; {known}"
    parts = key.split(".")
    for count in range(len(parts), 0, -1):
        text = _NO_COUNTERPART.get(".".join(parts[:count]))
        if text is not None:
            return text
    return "no such key is known; left out"


def _answers() -> dict[str, str]:
    """Return what the components say about BiaPy's keys, by the last part of their names."""
    from instaseg.methods.channels.config import REMOVED_KEYS as OF_CHANNELS
    from instaseg.postprocess.config import REMOVED_KEYS as OF_POSTPROCESSING

    answers: dict[str, str] = {}
    for table in (OF_POSTPROCESSING, OF_CHANNELS):
        for name, keys in table.items():
            for key, text in keys.items():
                answers[key] = f"in [{name}], {text}"
    return answers


def _load(file: Path, tables: Mapping[str, Any]) -> Config:
    """Return the result as a configuration: what the file means may not fit together."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "imported.toml"
        path.write_text(to_toml(tables), encoding="utf-8")
        try:
            return load_config([path])
        except ConfigError as error:
            reason = str(error).replace(f"{path} ", "").replace("\n- ", " ")
            raise ConfigError(_not_here(file, reason)) from error


def _heads(file: Path, config: Config) -> Sequence[Head]:
    """Return what the network predicts; a method refuses what no table says is wrong."""
    try:
        return MethodSpec(config.method, config.model, config.data).build().heads
    except ConfigError as error:
        raise ConfigError(_not_here(file, str(error))) from error


def _not_here(file: Path, reason: str) -> str:
    return f"{file}: what it asks for cannot be meant here: {reason.strip()}"


def _can_turn(heads: Sequence[Head], asked: Symmetries, ndim: int) -> str | None:
    """Return why predictions of turned images cannot be turned back; None where they can."""
    try:
        for symmetry in symmetries(asked, ndim):
            for head in heads:
                head.turn(np.zeros((head.channels, *(1,) * ndim)), symmetry)
    except ConfigError as error:
        return str(error)
    return None


def _possible_symmetries(source: Source, config: Config, heads: Sequence[Head]) -> Symmetries:
    """Return the most turned positions, of those asked for, that all heads can be predicted in."""
    ndim, wanted = config.data.ndim, config.prediction.symmetries
    refused = _can_turn(heads, wanted, ndim)
    if refused is None:
        return wanted
    best: Symmetries = "flips" if _can_turn(heads, "flips", ndim) is None else "none"
    source.remark("TEST.AUGMENTATION", f'symmetries = "{best}": {refused}')
    return best

"""Folds of a data set for cross validation: read from a split file, checked against the samples."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from instaseg.errors import ConfigError, DataError

Folds = dict[str, tuple[str, ...]]
"""Names of samples by name of their fold."""

TRAINING = "train"
"""A list of this name in a split file is no fold: its samples train the network."""
_MOST_NAMES = 10


def read_folds(file: Path) -> Folds:
    """Return the folds of a split file.

    A TOML file has one list of sample names per fold, at its top or in a table ``[folds]``; a list
    ``train`` is left out. A CSV file has the columns ``sample`` and ``fold``.

    Raises
    ------
    ConfigError
        If there is no such file, or it is nothing of that kind.

    Examples
    --------
    ``fold1 = ["C03", "C06"]`` and ``fold2 = ["C04", "C05"]`` are two folds of two samples.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"[validation] split_file: expected a TOML or CSV file of folds, {file} cannot be read"
            f" ({reason}); check the path"
        ) from error
    suffix = file.suffix.lower()
    if suffix not in (".toml", ".csv"):
        raise ConfigError(
            f"[validation] split_file: {file}: expected a file ending in .toml or .csv, found"
            f" {suffix or 'no suffix'!r}; rename it"
        )
    folds = _from_toml(file, text) if suffix == ".toml" else _from_csv(file, text)
    if len(folds) < 2:
        found = ", ".join(folds) or "none"
        raise ConfigError(
            f"[validation] split_file: {file}: expected at least two folds, found {found}; write"
            " one list of sample names for each"
        )
    return folds


def _from_toml(file: Path, text: str) -> Folds:
    try:
        table: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"[validation] split_file: {file}: not valid TOML ({error})") from error
    lists = table.get("folds", table)
    if not isinstance(lists, Mapping):
        raise ConfigError(
            f"[validation] split_file: {file}: folds must be a table; found {lists!r}"
        )
    wrong = [name for name, names in lists.items() if not _is_names(names)]
    if wrong:
        raise ConfigError(
            f"[validation] split_file: {file}: {wrong[0]}: expected a list of sample names such as"
            f' ["a", "b"], found {lists[wrong[0]]!r}'
        )
    return {name: tuple(names) for name, names in lists.items() if name != TRAINING}


def _is_names(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)


def _from_csv(file: Path, text: str) -> Folds:
    rows = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    columns = [name.strip() for name in rows.fieldnames or ()]
    if not {"sample", "fold"} <= set(columns):
        raise ConfigError(
            f"[validation] split_file: {file}: expected the columns sample and fold, found"
            f" {', '.join(columns) or 'none'}; name them in its first line"
        )
    rows.fieldnames = columns
    folds: dict[str, list[str]] = {}
    for number, row in enumerate(rows, 2):
        sample, fold = (row["sample"] or "").strip(), (row["fold"] or "").strip()
        if not (sample and fold):
            raise ConfigError(
                f"[validation] split_file: {file}, line {number}: expected a sample and its fold,"
                f" found sample {sample!r} and fold {fold!r}"
            )
        folds.setdefault(fold, []).append(sample)
    return {name: tuple(names) for name, names in folds.items() if name != TRAINING}


def dealt(names: Sequence[str], folds: int, *, where: str) -> list[frozenset[str]]:
    """Return names dealt into folds that differ by at most one in size.

    They are dealt in the order of a hash, so that neighbours in a series come apart, and always in
    the same way.

    Parameters
    ----------
    names : sequence of str
        All different.
    folds : int
        How many.
    where : str
        Where the samples are, for the message.

    Raises
    ------
    DataError
        If there are fewer names than folds.
    """
    if len(names) < folds:
        raise DataError(
            f"{where}: expected at least {folds} samples because data.split.folds = {folds}, found"
            f" {len(names)}; take fewer folds"
        )
    mixed = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return [frozenset(mixed[first::folds]) for first in range(folds)]


def check_folds(folds: Mapping[str, Sequence[str]], there: Sequence[str], where: str) -> None:
    """Check that every sample lies in exactly one fold.

    Parameters
    ----------
    folds : mapping of str to sequence of str
        Names of samples by fold.
    there : sequence of str
        Names of the samples of the data set.
    where : str
        Where the folds come from, for the message.

    Raises
    ------
    DataError
        With everything that is wrong: samples in several folds, unknown ones, and those in none.
    """
    faults = [*_repeated(folds), *_unknown(folds, there), *_left_out(folds, there)]
    if faults:
        raise DataError(f"{where}: expected every sample in one fold; {'; '.join(faults)}")


def _repeated(folds: Mapping[str, Sequence[str]]) -> Iterator[str]:
    homes: dict[str, list[str]] = {}
    for fold, names in folds.items():
        for name in names:
            homes.setdefault(name, []).append(fold)
    for name, of_name in homes.items():
        if len(of_name) > 1:
            yield f"{name} is in {' and '.join(of_name)}: remove it from all but one"


def _unknown(folds: Mapping[str, Sequence[str]], there: Sequence[str]) -> Iterator[str]:
    known = set(there)
    for fold, names in folds.items():
        unknown = [name for name in names if name not in known]
        if unknown:
            near = difflib.get_close_matches(unknown[0], there, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            yield f"{fold} names {_listed(unknown)}, no such sample in the data set{hint}"


def _left_out(folds: Mapping[str, Sequence[str]], there: Sequence[str]) -> Iterator[str]:
    named = {name for names in folds.values() for name in names}
    left_out = [name for name in there if name not in named]
    if left_out:
        yield f"{_listed(left_out)} in no fold: add to one"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more

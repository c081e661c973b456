"""Checkpoints: everything that training needs to go on, and prediction to run, in one file.

Files are ``checkpoint_<iteration>.pt`` in one folder. They hold tensors and plain values only, and
are read with torch's restricted unpickler, so that a foreign checkpoint cannot run code. A file
appears whole or not at all: it is written under a temporary name, flushed to the disk, and renamed.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from instaseg.errors import CheckpointError

_NAME = re.compile(r"checkpoint_(\d+)\.pt")
_PARTIAL = ".partial"
_FORMAT = 1
_UNREADABLE = (
    RuntimeError,
    EOFError,
    ValueError,
    KeyError,
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    pickle.UnpicklingError,
)


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after some iteration.

    Parameters
    ----------
    iteration : int
        Iterations done.
    seconds : float
        Time trained, over all runs.
    weights : dict of str to Tensor
        The network's state.
    averaged_weights : dict of str to Tensor
        Their running average, for prediction; equal to `weights` where none is kept.
    optimizer : dict
        State of the optimizer.
    scaler : dict
        State of the scaled loss; empty without one.
    config : str
        The resolved configuration, as TOML.
    statistics : dict
        How raw data were normalised, so that prediction does the same.
    architecture : dict
        What makes weights fit this network and no other; see
        :func:`instaseg.models.network.describe_architecture`.
    progress : dict of str to float
        What validation losses have said so far; empty in checkpoints that do not tell.
    phase : dict
        ``name`` of the phase that was on and ``begin``, the iteration after which it began; empty
        where there are no phases.

    Notes
    -----
    The state of random generators is not among them: random numbers of an iteration follow from
    the seed and its number. Nor is that of the learning rate: it follows from the time spent, and
    from `progress`.
    """

    iteration: int
    seconds: float
    weights: dict[str, Tensor]
    averaged_weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    config: str
    statistics: dict[str, Any]
    architecture: dict[str, Any]
    progress: dict[str, float] = field(default_factory=dict)
    phase: dict[str, Any] = field(default_factory=dict)


def checkpoint_path(folder: Path, iteration: int) -> Path:
    """Return the file of a checkpoint, whether it exists or not."""
    return folder / f"checkpoint_{iteration:08d}.pt"


def list_checkpoints(folder: Path) -> list[int]:
    """Return the iterations of the finished checkpoints in a folder, ascending."""
    if not folder.is_dir():
        return []
    names = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(name[1]) for name in names if name)


def checkpoint_digest(path: Path) -> str:
    """Return the SHA-256 of a checkpoint's file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint; older ones stay as they are, whatever happens.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    checkpoint : Checkpoint
        Tensors, and plain Python values.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    CheckpointError
        If the disk is full or the folder cannot be written; nothing is left behind.
    """
    path = checkpoint_path(folder, checkpoint.iteration)
    partial = path.with_name(path.name + _PARTIAL)
    # Not asdict(), which would copy every tensor.
    values = {part.name: getattr(checkpoint, part.name) for part in fields(checkpoint)}
    buffer = io.BytesIO()
    torch.save({"format": _FORMAT, **values}, buffer)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(f"checkpoint_*.pt{_PARTIAL}"):
            leftover.unlink()
        with partial.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(folder)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise CheckpointError(_cannot_write(path, error)) from error
    return path


def _sync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cannot_write(path: Path, error: OSError) -> str:
    existing = next(p for p in path.absolute().parents if p.exists())
    free = shutil.disk_usage(existing).free / 2**20
    return (
        f"{path}: cannot write the checkpoint: {error.strerror or error}; {free:.0f} MB are free"
        " there. Earlier checkpoints are kept: free space, then run the same command again with"
        " -id to go on from the last one"
    )


def remove_old_checkpoints(folder: Path, *, keep: Literal["all"] | int, keep_every: int) -> None:
    """Delete the checkpoints that the rule does not keep.

    Parameters
    ----------
    folder : Path
        Where they are.
    keep : "all" or int
        Number of the latest checkpoints to keep.
    keep_every : int
        Checkpoints at multiples of it are kept as well; 0 for none.
    """
    for iteration in _dispensable(list_checkpoints(folder), keep, keep_every):
        checkpoint_path(folder, iteration).unlink()


def _dispensable(
    iterations: Sequence[int], keep: Literal["all"] | int, keep_every: int
) -> list[int]:
    if keep == "all":
        return []
    return [n for n in iterations[:-keep] if not (keep_every and n % keep_every == 0)]


def load_checkpoint(folder: Path, iteration: int | Literal["last"] = "last") -> Checkpoint:
    """Read a checkpoint; its tensors come to the CPU.

    Parameters
    ----------
    folder : Path
        Where checkpoints are.
    iteration : int or "last"
        Which one.

    Raises
    ------
    CheckpointError
        If there is none, it is damaged, or it is no checkpoint of this program.
    """
    there = list_checkpoints(folder)
    if not there:
        raise CheckpointError(
            f"{folder}: expected a checkpoint (checkpoint_*.pt), found none; run --do train first"
        )
    if iteration == "last":
        iteration = there[-1]
    if iteration not in there:
        raise CheckpointError(
            f"{folder}: expected a checkpoint of iteration {iteration}, found"
            f" {', '.join(map(str, there))}; choose one of these"
        )
    return read_checkpoint(checkpoint_path(folder, iteration))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint's file; see :func:`load_checkpoint`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot read the checkpoint: {error.strerror or error}; check path and"
            " permissions"
        ) from error
    try:
        # torch does not compare the check sums that it writes.
        broken = zipfile.ZipFile(io.BytesIO(content)).testzip()
        if broken is not None:
            raise zipfile.BadZipFile(f"wrong check sum of {broken}")
        values = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(_damaged(path, reason)) from error
    return _from_values(path, values)


def _damaged(path: Path, found: str) -> str:
    return (
        f"{path}: expected a whole checkpoint of instaseg, found a damaged one or another file"
        f" ({found}). Delete it, then use another checkpoint (--checkpoint N) or go on training"
        " from the one before"
    )


def _from_values(path: Path, values: Any) -> Checkpoint:
    names = {part.name for part in fields(Checkpoint)}
    if not isinstance(values, dict) or {*values, "progress", "phase"} != {"format", *names}:
        raise CheckpointError(_damaged(path, "other contents"))
    if values.pop("format") != _FORMAT:
        raise CheckpointError(
            f"{path}: expected a checkpoint of format {_FORMAT}, found another; it was written by"
            " another version of instaseg: use that version, or train again"
        )
    return Checkpoint(**values)


def check_architecture(found: Mapping[str, Any], expected: Mapping[str, Any], where: str) -> None:
    """Check that the weights of one network fit another.

    Parameters
    ----------
    found, expected : mapping
        Descriptions of the checkpoint's network and of the configured one, by
        :func:`instaseg.models.network.describe_architecture`.
    where : str
        The checkpoint, for the message.

    Raises
    ------
    CheckpointError
        If they differ; lists each key with both values.
    """
    missing = object()
    differing = [
        f"  {key}: expected {_shown(expected, key)}, found {_shown(found, key)}"
        for key in {**expected, **found}
        if expected.get(key, missing) != found.get(key, missing)
    ]
    if differing:
        raise CheckpointError(
            f"{where}: the checkpoint is of another architecture than the configuration"
            " describes:\n"
            + "\n".join(differing)
            + "\nUse the configuration it was trained with, or train a new experiment"
        )


def _shown(described: Mapping[str, Any], key: str) -> str:
    return repr(described[key]) if key in described else "nothing"


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Put weights into a network.

    Raises
    ------
    CheckpointError
        If names or shapes differ; lists them.
    """
    own = network.state_dict()
    shapes_found = {name: list(tensor.shape) for name, tensor in weights.items()}
    shapes_expected = {name: list(tensor.shape) for name, tensor in own.items()}
    check_architecture(shapes_found, shapes_expected, where)
    network.load_state_dict(dict(weights))

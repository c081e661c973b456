"""What was run: commands, versions, code, machine."""

from __future__ import annotations

import platform
import socket
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import instaseg
from instaseg.errors import StageError
from instaseg.io.text import to_toml, write_text

PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "zarr", "gunpowder", "numba", "h5py")


def record(file: Path, command: Sequence[str], *, now: datetime, facts: dict[str, Any]) -> None:
    """Add one run to the provenance file.

    Parameters
    ----------
    file : Path
        ``provenance.toml`` of the experiment; created if it is not there.
    command : sequence of str
        The command line as given.
    now : datetime
        Start of the run.
    facts : dict
        Plain values worth keeping besides, such as seed, device and comment.

    Raises
    ------
    StageError
        If the file is damaged or cannot be written.
    """
    runs = _earlier_runs(file)
    run = {
        "command": list(command),
        "started": now.isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "system": platform.platform(),
        "python": sys.version.split()[0],
        **facts,
        "versions": {"instaseg": instaseg.__version__, **_versions()},
        "code": _code(Path(instaseg.__file__).parents[1]),
    }
    write_text(file, to_toml({"run": [*runs, run]}))


def origin(file: Path) -> tuple[str, str] | None:
    """Return the app and setup an experiment was made from, None where no run is recorded.

    Raises
    ------
    StageError
        If the file is damaged.
    """
    runs = _earlier_runs(file)
    first = runs[0] if runs else {}
    return (first["app"], first["setup"]) if {"app", "setup"} <= first.keys() else None


def _earlier_runs(file: Path) -> list[dict[str, Any]]:
    try:
        runs: list[dict[str, Any]] = tomllib.loads(file.read_text(encoding="utf-8"))["run"]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError) as error:
        raise StageError(
            f"{file}: expected the runs of this experiment, found a damaged file ({error}); mend"
            " it, or move it away: a new one is begun"
        ) from error
    return runs


def _versions() -> dict[str, str]:
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            installed[package] = "not installed"
    return installed


def _code(folder: Path) -> dict[str, str]:
    """Return commit and uncommitted changes of the source checkout, if it is one."""
    if not (folder / ".git").exists():
        return {"commit": "installed package", "diff": ""}
    return {"commit": _git(folder, "rev-parse", "HEAD"), "diff": _git(folder, "diff", "HEAD")}


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown (git is not available)"
    return done.stdout.strip()

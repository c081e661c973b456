"""Apps and setups: where they lie, and the code a setup may bring."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

import instaseg
from instaseg.errors import ConfigError

DEFAULT_APP = "dsb2018"
DEFAULT_SETUP = "setup01"
SETUP_CODE = {"torch_model.py": "build_network", "torch_loss.py": "loss"}
"""Python files a setup may bring, and the function that each has to define."""


@dataclass(frozen=True)
class Setup:
    """One way to solve one app.

    Parameters
    ----------
    app, name : str
        Folder names below ``experiments`` and ``setups``.
    folder : Path
        The setup's folder.
    """

    app: str
    name: str
    folder: Path


def app_folders() -> list[Path]:
    """Return where apps are looked for: the working directory's, then the package's own."""
    package = Path(instaseg.__file__).parent
    candidates = (
        Path.cwd() / "experiments",
        package.parent / "experiments",
        package / "experiments",
    )
    return list(dict.fromkeys(folder for folder in candidates if folder.is_dir()))


def find_setup(app: str, setup: str) -> Setup:
    """Return a setup by name.

    Raises
    ------
    ConfigError
        If the app or the setup does not exist; lists those that do.
    """
    folders = app_folders()
    apps = {
        path.name: path
        for root in reversed(folders)
        for path in root.iterdir()
        if (path / "setups").is_dir()
    }
    if app not in apps:
        searched = ", ".join(map(str, folders)) or "no experiments folder"
        raise ConfigError(f"--app {app}: {_choices('app', app, apps)}; looked in {searched}")
    setups = {path.name: path for path in (apps[app] / "setups").iterdir() if path.is_dir()}
    if setup not in setups:
        raise ConfigError(f"--setup {setup}: {_choices(f'setup of {app}', setup, setups)}")
    return Setup(app, setup, setups[setup])


def origin_of(config: Path) -> tuple[str, str] | None:
    """Return the app and setup a configuration file belongs to by where it lies, if it does.

    Examples
    --------
    >>> origin_of(Path("experiments/worms/setups/setup02/default.toml"))
    ('worms', 'setup02')
    """
    parts = config.absolute().parts
    for i, part in enumerate(parts[:-2]):
        if part == "setups":
            return parts[i - 1], parts[i + 1]
    return None


def find_config(name: str, setup: Setup) -> Path:
    """Return a configuration file: as given from the working directory, else in the setup.

    Raises
    ------
    ConfigError
        If there is none in either place.
    """
    for candidate in (Path(name), setup.folder / name):
        if candidate.is_file():
            return candidate.absolute()
    there = sorted(
        {path.name for folder in (Path.cwd(), setup.folder) for path in folder.glob("*.toml")}
    )
    raise ConfigError(
        f"--config {name}: {_choices('configuration file', name, there)}; looked in {Path.cwd()}"
        f" and {setup.folder}"
    )


def load_code(folder: Path, file: str) -> ModuleType | None:
    """Return a setup's Python file as a module, or None if the setup has none.

    Raises
    ------
    ConfigError
        If the file cannot be imported, or lacks the function it is for.
    """
    path = folder / file
    if not path.is_file():
        return None
    spec = importlib.util.spec_from_file_location(f"setup_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: expected a Python file; cannot be imported")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{path}: cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(getattr(module, SETUP_CODE[file], None)):
        raise ConfigError(f"{path}: expected a function {SETUP_CODE[file]}, found none; define it")
    return module


def _choices(kind: str, name: str, there: Sequence[str] | dict[str, Path]) -> str:
    near = get_close_matches(name, list(there), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"no such {kind}; {hint}there are: {', '.join(sorted(there)) or 'none'}"

"""What is imported is declared, what is declared is pinned, what is needed is in the wheel."""

import ast
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from shutil import copy, copytree

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCAL = {"instaseg"}
INDIRECT = {"tensorboard"}  # torch.utils.tensorboard writes with it


def declared(argument: str) -> list[Requirement]:
    """Return the requirements that ``setup.py`` passes as `argument`, of all extras if a dict."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (call,) = [
        n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "setup"
    ]
    (value,) = [ast.literal_eval(k.value) for k in call.keywords if k.arg == argument]
    lines = (
        value if isinstance(value, list) else [line for lines in value.values() for line in lines]
    )
    return [Requirement(line) for line in lines]


def imports() -> set[str]:
    """Return the top-level names imported in the package that are not of the standard library."""
    names = set()
    for path in (ROOT / "instaseg").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - LOCAL


def names(requirements: list[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


def pins() -> list[Requirement]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_every_import_is_declared():
    providers = packages_distributions()
    allowed = names(declared("install_requires")) | names(declared("extras_require"))
    missing = {
        name
        for name in imports()
        if not {canonicalize_name(provider) for provider in providers.get(name, [])} & allowed
    }
    assert missing == set()


def test_every_declared_package_is_imported():
    providers = packages_distributions()
    used = {canonicalize_name(p) for name in imports() for p in providers.get(name, [])}
    assert names(declared("install_requires")) - used == INDIRECT


def test_pins_are_exact_and_within_the_declared_bounds():
    here = {
        canonicalize_name(pin.name): pin.specifier
        for pin in pins()
        if pin.marker is None or pin.marker.evaluate()
    }
    assert all(str(specifier).startswith("==") for specifier in here.values())
    optional = {"dask-jobqueue"}
    for requirement in declared("install_requires") + declared("extras_require"):
        name = canonicalize_name(requirement.name)
        if name not in optional:
            assert requirement.specifier.contains(str(here[name])[2:]), requirement


def test_no_pin_brings_cuda():
    assert [pin.name for pin in pins() if pin.name.startswith(("nvidia", "triton"))] == []


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory) -> set[str]:
    """Return the files of a wheel built from a copy of the sources."""
    source = tmp_path_factory.mktemp("source")
    for folder in ("instaseg", "experiments"):
        copytree(ROOT / folder, source / folder)
    for file in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        copy(ROOT / file, source / file)
    target = tmp_path_factory.mktemp("wheel")
    quiet = ("--disable-pip-version-check", "--quiet")
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", str(target))
    subprocess.run(
        [sys.executable, "-m", "pip", *quiet, "wheel", *options, str(source)], check=True
    )
    (wheel,) = target.glob("instaseg-*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_holds_the_package_and_the_embedded_app(wheel_names):
    files = [
        path.relative_to(ROOT)
        for path in [*ROOT.glob("instaseg/**/*"), *ROOT.glob("experiments/**/*")]
        if path.is_file() and "__pycache__" not in path.parts
    ]
    wanted = {str(path if path.parts[0] == "instaseg" else "instaseg" / path) for path in files}
    assert wanted - wheel_names == set()


def test_the_wheel_has_a_command_and_no_tests(wheel_names):
    assert any(name.endswith("entry_points.txt") for name in wheel_names)
    assert not [name for name in wheel_names if name.startswith(("tests", "experiments"))]

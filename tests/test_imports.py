"""Imports go one way, and what answers ``--help`` stays light."""

import ast
import importlib
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "instaseg"

# Lowest first; a module may import its own layer and those above it in this table. The longest
# name that matches counts; "*.config" is the config.py of a component, without heavy imports.
LAYERS = (
    ("", "errors", "geometry", "progress", "settings"),
    (
        "*.config",
        "blockwise.work",
        "data.classes",
        "methods",
        "methods.base",
        "methods.channels.legacy",
        "models.shapes",
    ),
    (
        "blockwise",
        "data",
        "io",
        "methods.channels",
        "methods.deep_watershed",
        "methods.patches",
        "methods.semantic",
        "methods.synapses",
        "metrics",
        "postprocess",
        "regions",
        "report",
    ),
    (
        "inference",
        "methods.build",
        "methods.channels.loss",
        "methods.channels.method",
        "methods.channels.quality",
        "methods.deep_watershed.loss",
        "methods.deep_watershed.method",
        "methods.deep_watershed.networks",
        "methods.instance_classes",
        "methods.known",
        "methods.losses",
        "methods.patches.codes",
        "methods.patches.loss",
        "methods.patches.method",
        "methods.patches.quality",
        "methods.patches.stored",
        "methods.semantic.loss",
        "methods.semantic.method",
        "methods.synapses.loss",
        "methods.synapses.method",
        "methods.synapses.stored",
        "models",
        "training",
    ),
    ("config",),
    ("run",),
    ("stages",),
    ("cli",),
)

HEAVY = ("gunpowder", "matplotlib", "numba", "pandas", "scipy", "skimage", "torch", "zarr")

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    .removesuffix("__init__")
    .rstrip("."): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def layer(module: str) -> int:
    """Return the number of the layer a module (without ``instaseg.``) belongs to."""
    parts = module.split(".")
    names = [".".join(parts[:n]) for n in range(len(parts), 0, -1)] if module else [""]
    if parts[-1] == "config" and len(parts) > 1:
        names.insert(0, "*.config")
    for name in names:
        for number, members in enumerate(LAYERS):
            if name in members:
                return number
    raise AssertionError(f"instaseg.{module} is in no layer; add it to LAYERS")


def imported(path: Path) -> Iterator[str]:
    """Yield the modules a file imports anywhere in it, relative imports left out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}".removeprefix("instaseg.")
                yield f"instaseg.{inner}" if inner in MODULES else node.module


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_their_own_layer_or_lower_ones(module):
    names = [name for name in imported(MODULES[module]) if name.split(".")[0] == "instaseg"]
    others = [name.removeprefix("instaseg").lstrip(".") for name in names]
    wrong = [name for name in others if name in MODULES and layer(name) > layer(module)]
    assert wrong == [], f"instaseg.{module} (layer {layer(module)}) must not import {wrong}"


@pytest.mark.parametrize("module", MODULES)
def test_relative_imports_are_not_used(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level > 0]


SCRIPTS = sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("experiments/*/*.py")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_import_what_is_there(script):
    missing = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("instaseg")
        for alias in node.names
        if f"{node.module}.{alias.name}".removeprefix("instaseg.") not in MODULES
        and not hasattr(importlib.import_module(str(node.module)), alias.name)
    ]
    assert missing == []


def test_gunpowder_is_imported_in_one_file():
    using = {name for name, path in MODULES.items() if "gunpowder" in set(imported(path))}
    assert using <= {"data.pipeline"}


def python(code: str) -> str:
    """Return what Python prints for some code, run in a fresh process."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


SETTINGS = [f"instaseg.{name}" for name in MODULES if name.endswith(".config")]


@pytest.mark.parametrize(
    "modules",
    [
        pytest.param(["instaseg"], id="package"),
        pytest.param(["instaseg.cli"], id="cli"),
        pytest.param(["instaseg.config.load", "instaseg.config.describe"], id="config"),
        pytest.param(SETTINGS, id="settings"),
    ],
)
def test_light_modules_load_nothing_heavy(modules):
    loaded = python(f"import sys, {', '.join(modules)}; print(*sys.modules)").split()
    assert sorted(set(HEAVY) & set(loaded)) == []


HELP = """
import contextlib, io, sys
from instaseg.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(["--help"])
print(*sys.modules)
"""


def test_help_is_light_and_quick():
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        loaded = python(HELP).split()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert sorted(set(HEAVY) & set(loaded)) == []
    assert min(spent) < 0.5, f"--help took {min(spent):.2f} s of processor time"

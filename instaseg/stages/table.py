"""The stages: one table that feeds ``--do``, ``--help``, the order, the README and the checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from instaseg.errors import ConfigError


@dataclass(frozen=True)
class Stage:
    """One word after ``--do``.

    Parameters
    ----------
    name : str
        The word; the stage is ``instaseg.stages.<name>.run``.
    summary : str
        What it does, for ``--help`` and the README.
    data : tuple of str
        Data sets it needs: ``train``, ``val``, ``test``; a trailing ``+labels`` asks for labels.
    reads, writes : tuple of str
        Names in :data:`instaseg.stages.plan.ARTIFACTS`.
    """

    name: str
    summary: str
    data: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


STAGES: tuple[Stage, ...] = (
    Stage(
        "mknet",
        "builds the network; writes its shapes, parameters and memory estimate",
        writes=("network",),
    ),
    Stage(
        "sample_pictures",
        "draws training crops: their place in image and labels, before and after augmentation",
        data=("train+labels",),
    ),
    Stage(
        "train_autoencoder",
        "trains the decoder of patch codes on true patches, for `train` to begin with",
        data=("train+labels",),
    ),
    Stage(
        "train",
        "trains the network, from the last checkpoint if there is one",
        data=("train+labels",),
        writes=("checkpoints",),
    ),
    Stage(
        "validate_checkpoints",
        "scores every kept checkpoint with every parameter set of the sweep; keeps the best pair",
        data=("val+labels",),
        reads=("checkpoints",),
        writes=("validation",),
    ),
    Stage(
        "validate",
        "scores the parameter sets of the sweep for one checkpoint (`--checkpoint`, else the last)",
        data=("val+labels",),
        reads=("checkpoints",),
        writes=("validation",),
    ),
    Stage(
        "cross_validate",
        "chooses checkpoint and parameters on all folds but one and scores that one, in turn",
        data=("val+labels", "test+labels"),
        reads=("checkpoints",),
    ),
    Stage(
        "predict",
        "runs the network on the test images, tile by tile",
        data=("test",),
        reads=("checkpoints",),
        writes=("predictions",),
    ),
    Stage(
        "decode",
        "turns predicted patch codes into patches (only for setups with codes)",
        data=("test",),
        reads=("predictions",),
    ),
    Stage(
        "label",
        "turns predictions into instances, classes or points",
        data=("test",),
        reads=("predictions",),
        writes=("instances",),
    ),
    Stage(
        "postprocess",
        "repairs instances: debris, holes, growth, filters by size and shape; renumbers",
        data=("test",),
        reads=("instances",),
    ),
    Stage(
        "classify",
        "says of which class each instance is (only for setups with classes of instances)",
        data=("test",),
        reads=("instances",),
    ),
    Stage(
        "evaluate",
        "compares results with the ground truth, and with Otsu + connected components",
        data=("test",),
        reads=("instances",),
        writes=("scores",),
    ),
    Stage(
        "visualize",
        "draws curves and overlays, and writes report/index.html",
        data=("test",),
        reads=("instances",),
    ),
    Stage(
        "export",
        "writes results for other programs: labels as TIFF for ImageJ, points as CSV",
        data=("test",),
        reads=("instances",),
    ),
    Stage(
        "compare",
        "mean and spread of the test scores of this experiment and those after `--with`",
        reads=("scores",),
    ),
    Stage(
        "cleanup",
        "deletes predictions whose results or scores exist, after saying how large they are",
        reads=("instances",),
    ),
    Stage("status", "says what is done, half done and missing"),
)

ALIASES: dict[str, tuple[str, ...]] = {
    "all": (
        "mknet",
        "train",
        "validate_checkpoints",
        "predict",
        "decode",
        "label",
        "postprocess",
        "classify",
        "evaluate",
        "visualize",
    ),
    "infer": ("predict", "decode", "label", "classify", "evaluate"),
}


def expand(words: Sequence[str]) -> list[Stage]:
    """Return the stages of the words after ``--do``, each once, in the order of the table.

    Raises
    ------
    ConfigError
        If a word is neither a stage nor an alias; lists those there are.
    """
    known = {stage.name for stage in STAGES}
    names: set[str] = set()
    for word in words:
        if word not in known and word not in ALIASES:
            raise ConfigError(_unknown(word))
        names.update(ALIASES.get(word, (word,)))
    return [stage for stage in STAGES if stage.name in names]


def _unknown(word: str) -> str:
    names = [stage.name for stage in STAGES]
    near = get_close_matches(word, [*names, *ALIASES], n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return (
        f'--do: unknown stage "{word}"{hint}; stages: {", ".join(names)};'
        f" aliases: {', '.join(ALIASES)}"
    )


def stage_table() -> str:
    """Return the stages and aliases as a Markdown table, as the README shows it."""
    rows = [f"| `{name}` | {' '.join(stages)} |" for name, stages in ALIASES.items()]
    rows += [f"| `{stage.name}` | {stage.summary} |" for stage in STAGES]
    return "\n".join(["| after `--do` | what it does |", "|---|---|", *rows])

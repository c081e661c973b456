"""One run of the command line: prepared without writing anything, then executed stage by stage."""

from __future__ import annotations

import argparse
import functools
import importlib
import logging
import operator
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from instaseg.blockwise.scheduler import Workers, check_scheduler
from instaseg.config.load import config_to_toml, load_config
from instaseg.config.schema import Config
from instaseg.errors import ConfigError, InstasegError, StageError
from instaseg.io.text import write_text
from instaseg.run import provenance
from instaseg.run.experiment import (
    Experiment,
    latest_experiment,
    new_experiment,
    open_experiment,
)
from instaseg.run.lock import exclusive
from instaseg.run.logs import log_to
from instaseg.run.setups import (
    DEFAULT_APP,
    DEFAULT_SETUP,
    SETUP_CODE,
    Setup,
    find_config,
    find_setup,
    origin_of,
)
from instaseg.run.sweep import SWEPT_TABLES
from instaseg.stages import plan
from instaseg.stages.context import Context, Options, Role
from instaseg.stages.table import Stage, expand
from instaseg.training.ranks import ALONE, Ranks

logger = logging.getLogger(__name__)

DEBUG_OVERRIDES = (
    "training.max_iterations=10",
    "training.checkpoints=10",
    "training.snapshots=10",
)
DEBUG_SAMPLES = 2
TOGETHER = ("train",)
"""Stages that several processes, started by torchrun, run together."""


@dataclass
class Session:
    """Stages and what they are given.

    Parameters
    ----------
    stages : list of Stage
        In order.
    context : Context
        Configuration, experiment, options.
    comment : str
        Kept in the provenance.
    setup : Setup, optional
        What a new experiment is made from; None where one is gone on with.
    started : bool
        Whether work has begun, so that an error is a stage's and not the command line's.
    """

    stages: list[Stage]
    context: Context
    comment: str
    setup: Setup | None
    started: bool = field(default=False)

    def plan_text(self) -> str:
        """Return what the run would do, stage by stage."""
        folder = self.context.experiment.folder
        lines = [f"experiment {folder} ({'new' if self.setup else 'goes on'})"]
        for number, stage in enumerate(self.stages, 1):
            reads = ", ".join((*stage.data, *stage.reads)) or "nothing"
            writes = ", ".join(stage.writes) or "no array others read"
            lines.append(f"{number}. {stage.name}: {stage.summary}; reads {reads}; writes {writes}")
        return "\n".join([*lines, "dry run: checked, nothing was written"])


def prepare(arguments: argparse.Namespace, now: datetime, ranks: Ranks = ALONE) -> Session:
    """Return a run that has been checked; nothing is written.

    Parameters
    ----------
    arguments : argparse.Namespace
        What :func:`instaseg.cli.parser` has read.
    now : datetime
        Start of the run, the same in all processes.
    ranks : Ranks
        The processes that run together.

    Raises
    ------
    InstasegError
        If arguments, configuration or data are wrong, or a stage would lack what it reads.
    """
    stages = expand(arguments.do)
    _check_sample(stages, arguments.sample)
    _check_together(stages, ranks)
    _check_others(stages, arguments)
    setup: Setup | None
    if arguments.experiment is None:
        _check_new(stages, arguments.root.absolute())
        setup, files = _setup_and_files(arguments, (DEFAULT_APP, DEFAULT_SETUP))
        experiment = new_experiment(arguments.root.absolute(), setup.app, setup.name, now)
        code = setup.folder
    else:
        setup = None
        experiment = open_experiment(arguments.experiment.absolute())
        files = _kept_files(arguments, experiment)
        code = experiment.setup_code
    config = _load(arguments, files)
    context = Context(
        config=config,
        experiment=experiment,
        setup_code=code,
        options=_options(arguments, config),
        workers=Workers(config.general.num_workers, arguments.scheduler),
        ranks=ranks,
    )
    plan.check(stages, context)
    check_scheduler(context.workers)
    return Session(stages, context, arguments.comment, setup)


def execute(session: Session, command: Sequence[str], now: datetime) -> Iterator[str]:
    """Run the stages and yield what each has to tell the user.

    Parameters
    ----------
    session : Session
        A prepared run.
    command : sequence of str
        The command line, for the provenance.
    now : datetime
        Start of the run.

    Raises
    ------
    InstasegError
        If the experiment is in use or a stage fails; the message names stage and log file.
    """
    context = session.context
    if not context.ranks.first:
        _follow(session)
        return
    if [stage.name for stage in session.stages] == ["status"]:
        session.started = True
        yield _run_stage(session.stages[0], context) or ""
        return
    with exclusive(context.experiment.lock_file):
        if session.setup is not None:
            _create(session, session.setup)
        session.started = True
        with log_to(context.experiment.log_file, context.config.general.logging):
            _record(session, command, now)
            logger.info("experiment %s", context.experiment.folder)
            context.ranks.meet()
            for stage in session.stages:
                text = _logged(stage, context)
                if text:
                    yield text
            context.ranks.meet()


def _follow(session: Session) -> None:
    """Run the stages beside the first process, once it has made the experiment; say nothing."""
    session.started = True
    logging.getLogger("instaseg").addHandler(logging.NullHandler())
    session.context.ranks.meet()
    for stage in session.stages:
        _logged(stage, session.context)
    session.context.ranks.meet()


def _logged(stage: Stage, context: Context) -> str | None:
    """Run one stage; whatever goes wrong names the stage and the log file."""
    logger.info("stage %s", stage.name)
    log = context.experiment.log_file
    try:
        return _run_stage(stage, context)
    except InstasegError as error:
        logger.debug("stage %s failed", stage.name, exc_info=True)
        raise type(error)(f"stage {stage.name}: {error} (log: {log})") from error
    except (OSError, MemoryError) as error:
        logger.debug("stage %s failed", stage.name, exc_info=True)
        raise StageError(
            f"stage {stage.name}: {error or 'not enough memory'}; finished work is kept: mend the"
            f" cause and run the same command with -id {context.experiment.folder} (log: {log})"
        ) from error
    except Exception as error:
        logger.debug("stage %s failed", stage.name, exc_info=True)
        raise StageError(
            f"stage {stage.name}: unexpected {type(error).__name__}: {error}; this is a defect of"
            f" instaseg or of the setup's code, please report it with {log}"
        ) from error


def _run_stage(stage: Stage, context: Context) -> str | None:
    text: str | None = importlib.import_module(f"instaseg.stages.{stage.name}").run(context)
    return text


def _check_sample(stages: Sequence[Stage], names: Sequence[str]) -> None:
    """Check that ``--sample`` has an effect: only stages on the test data heed it."""
    of_test = any(need.startswith("test") for stage in stages for need in stage.data)
    if names and not of_test and "status" not in [stage.name for stage in stages]:
        raise ConfigError(
            f"--sample {names[0]}: expected a stage that works on the test data, found"
            f" {', '.join(stage.name for stage in stages)}; leave out --sample"
        )


def _check_others(stages: Sequence[Stage], arguments: argparse.Namespace) -> None:
    """Check that ``--with`` names experiments, each once, where ``compare`` needs them."""
    compares = "compare" in [stage.name for stage in stages]
    if compares != bool(arguments.others):
        found = "no --with" if compares else f"--with {arguments.others[0]}"
        hint = "name others with --with" if compares else "leave out --with"
        raise ConfigError(
            f"--with: expected experiments to compare for --do compare alone, found {found}; {hint}"
        )
    seen = {arguments.experiment.absolute()} if arguments.experiment else set()
    for folder in map(Path.absolute, arguments.others):
        if folder in seen:
            raise ConfigError(
                f"--with {folder}: expected every experiment once, found it twice; leave one out"
            )
        seen.add(folder)
        if not Experiment(folder).config_file.is_file():
            raise ConfigError(
                f"--with {folder}: expected an experiment folder (with config.toml), found none;"
                " give the path a run printed as 'experiment'"
            )


def _check_together(stages: Sequence[Stage], ranks: Ranks) -> None:
    """Check that torchrun has started only what its processes can do together."""
    others = [stage.name for stage in stages if stage.name not in TOGETHER]
    if others and not ranks.alone:
        raise ConfigError(
            f"torchrun: expected --do {' '.join(TOGETHER)} alone, found {', '.join(others)}; run"
            " other stages afterwards, without torchrun, with -id"
        )


def _check_new(stages: Sequence[Stage], root: Path) -> None:
    """Check that a new experiment is of use to the stages, and can be made below `root`."""
    if [stage.name for stage in stages] == ["status"]:
        latest = latest_experiment(root)
        hint = f" (the latest in {root} is {latest.name})" if latest else ""
        raise ConfigError(
            f"--do status: expected an experiment, found no -id; name its folder with -id{hint}"
        )
    existing = next(path for path in (root, *root.parents) if path.exists())
    if not existing.is_dir():
        raise ConfigError(f"--root {root}: expected a folder, {existing} is a file; choose another")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(
            f"--root {root}: cannot write in {existing}; change its permissions or choose another"
            " --root"
        )


def _setup_and_files(
    arguments: argparse.Namespace, otherwise: tuple[str, str]
) -> tuple[Setup, list[Path]]:
    """Return the setup that flags name, or the place of a file, and the configuration files.

    Parameters
    ----------
    arguments : argparse.Namespace
        ``--app``, ``--setup`` and ``--config``.
    otherwise : (str, str)
        App and setup where the arguments say neither.
    """
    names = arguments.config or ["default.toml"]
    places = (origin_of(Path(name)) for name in names if Path(name).is_file())
    place = next(filter(None, places), otherwise)
    app = arguments.app or place[0]
    same = place[1] if app == place[0] else DEFAULT_SETUP
    setup = find_setup(app, arguments.setup or same)
    return setup, [find_config(name, setup) for name in names]


def _kept_files(arguments: argparse.Namespace, experiment: Experiment) -> list[Path]:
    """Return an experiment's own configuration, and the files given beside it.

    Raises
    ------
    ConfigError
        If ``--app`` or ``--setup`` name another one than the experiment was made from, and no
        ``--config`` is looked up there: they would have no effect.
    """
    names = arguments.config or []
    given = [Path(name).absolute() for name in names]
    if arguments.app or arguments.setup or not all(path.is_file() for path in given):
        origin = provenance.origin(experiment.provenance_file)
        if all(path.is_file() for path in given):
            _refuse_other_setup(arguments, experiment, origin)
        else:
            _, given = _setup_and_files(arguments, origin or (DEFAULT_APP, DEFAULT_SETUP))
    own = experiment.config_file
    return [own, *(path for path in given if path != own)]


def _refuse_other_setup(
    arguments: argparse.Namespace, experiment: Experiment, origin: tuple[str, str] | None
) -> None:
    for flag, made_from in zip(("app", "setup"), origin or (), strict=False):
        given = getattr(arguments, flag)
        if given not in (None, made_from):
            raise ConfigError(
                f"--{flag} {given}: expected {made_from}, which the experiment {experiment.folder}"
                f" was made from; leave out --{flag}, or leave out -id to begin a new experiment"
            )


def _load(arguments: argparse.Namespace, files: Sequence[Path]) -> Config:
    flags = {
        "data.train_data": arguments.train_data,
        "data.val_data": arguments.val_data,
        "data.test_data": arguments.test_data,
        "data.input_format": arguments.input_format,
        "general.device": arguments.device,
        "general.num_workers": arguments.workers,
    }
    overrides = [*(DEBUG_OVERRIDES if arguments.debug_args else ()), *arguments.overrides]
    return load_config(files, overrides, cli=flags)


def _options(arguments: argparse.Namespace, config: Config) -> Options:
    stands_in: dict[Role, Role] = {}
    if arguments.validate_on_train:
        stands_in["val"] = "train"
    if arguments.test_on_train:
        stands_in["test"] = "train"
    if arguments.checkpoint is not None and arguments.test_checkpoint is not None:
        raise ConfigError(
            "--checkpoint and --test-checkpoint: expected one of them, found both; --checkpoint N"
            " names an iteration, --test-checkpoint takes the best or the last"
        )
    return Options(
        checkpoint=arguments.checkpoint,
        test_checkpoint=arguments.test_checkpoint,
        samples=tuple(arguments.sample),
        stands_in=stands_in,
        existing="overwrite" if arguments.overwrite else "keep",
        fixed=_fixed(arguments.overrides, config),
        most_samples=DEBUG_SAMPLES if arguments.debug_args else None,
        others=tuple(path.absolute() for path in arguments.others),
    )


def _fixed(overrides: Sequence[str], config: Config) -> dict[str, Any]:
    """Return the values of swept tables that ``--set`` gives; they win over validated ones."""
    keys = (override.partition("=")[0].strip() for override in overrides)
    dumped = {name: getattr(config, name).model_dump(mode="json") for name in SWEPT_TABLES}
    return {
        key: functools.reduce(operator.getitem, key.split("."), dumped)
        for key in keys
        if key.partition(".")[0] in SWEPT_TABLES
    }


def _create(session: Session, setup: Setup) -> None:
    """Make the experiment folder: code first, configuration last, which makes it one.

    Raises
    ------
    InstasegError
        If it cannot be written; nothing of it is left.
    """
    experiment = session.context.experiment
    if experiment.config_file.exists():
        raise ConfigError(
            f"{experiment.folder}: another run has just made this experiment; start again"
        )
    try:
        _copy_code(setup, experiment)
        write_text(experiment.config_file, config_to_toml(session.context.config))
    except (OSError, InstasegError) as error:
        shutil.rmtree(experiment.folder, ignore_errors=True)
        raise ConfigError(
            f"--root: the experiment {experiment.folder} cannot be made ({_cause(error)}); free"
            " space or choose another --root"
        ) from error


def _cause(error: OSError | InstasegError) -> str:
    """Return what the file system said."""
    first = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return str(getattr(first, "strerror", None) or first)


def _copy_code(setup: Setup, experiment: Experiment) -> None:
    for name in SETUP_CODE:
        if (setup.folder / name).is_file():
            experiment.setup_code.mkdir(parents=True, exist_ok=True)
            shutil.copy2(setup.folder / name, experiment.setup_code / name)


def _record(session: Session, command: Sequence[str], now: datetime) -> None:
    context = session.context
    facts = {
        "stages": [stage.name for stage in session.stages],
        "comment": session.comment,
        "seed": context.config.general.seed,
        "device": context.config.general.device,
    }
    if session.setup is not None:
        facts |= {"app": session.setup.app, "setup": session.setup.name}
    provenance.record(context.experiment.provenance_file, command, now=now, facts=facts)

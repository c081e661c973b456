"""The command line: arguments to an experiment and a plan of stages.

The only place that prints errors and exits: 0 done, 2 wrong usage or configuration (before anything
is written), 1 a stage failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from instaseg.errors import InstasegError
from instaseg.stages.table import ALIASES, STAGES

if TYPE_CHECKING:
    from instaseg.stages.session import Session
    from instaseg.training.ranks import Ranks

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

IMPORT_BIAPY = "import-biapy"
"""First word of a command line that translates a configuration instead of running stages."""

# GNU OpenMP reads it when torch is loaded. By default threads that wait for each other keep the
# processor busy; where something else runs as well, a training iteration took 4 s instead of 0.9.
SHORT_SPIN = ("GOMP_SPINCOUNT", "1000")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process if left out.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == [IMPORT_BIAPY]:
        return _import_biapy(words[1:])
    arguments = parser().parse_args(words)
    os.environ.setdefault(*SHORT_SPIN)
    _share_threads()
    from instaseg.training.ranks import joined

    with joined() as ranks:
        now = ranks.from_first(datetime.now().astimezone())
        session, problem = _prepare(arguments, now, ranks)
        # Most problems are found by all processes alike: the first one tells.
        problems = [found for found in ranks.gather(problem) if found is not None]
        if session is None or problems:
            text, code = problems[0]
            return _complain(text, code) if ranks.first else code
        if arguments.dry_run:
            return _tell(session.plan_text()) if ranks.first else DONE
        return _work(session, ["run_ppp.py", *(sys.argv[1:] if argv is None else argv)], now)


def _share_threads() -> None:
    """Give numba as many threads as ``OMP_NUM_THREADS`` says, where it is set.

    Numba starts one for each core otherwise, and OpenMP has as many from then on: networks would
    compute with other numbers of threads, and sums in another order, after the first labelling.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0 and "numba" not in sys.modules:
        os.environ.setdefault("NUMBA_NUM_THREADS", wanted)


Problem = tuple[str, int]
"""What is wrong before any work, and the exit code."""


def _prepare(
    arguments: argparse.Namespace, now: datetime, ranks: Ranks
) -> tuple[Session | None, Problem | None]:
    """Return a run that has been checked, or what is wrong with it."""
    try:
        from instaseg.stages.session import prepare

        return prepare(arguments, now, ranks), None
    except ModuleNotFoundError as error:
        text = (
            f"{error} for {sys.executable}; use the environment that make has made"
            " (.venv/bin/python, or first: . .venv/bin/activate), or pip install ."
        )
        return None, (text, WRONG_USAGE)
    except InstasegError as error:
        return None, (str(error), WRONG_USAGE)
    except OSError as error:
        return None, (f"{error}; check path and permissions", WRONG_USAGE)
    except KeyboardInterrupt:
        return None, ("interrupted before any work; nothing was written", INTERRUPTED)


def _work(session: Session, command: Sequence[str], now: datetime) -> int:
    """Run the stages, tell what they have to say, and return the exit code."""
    from instaseg.stages.session import execute
    from instaseg.training.ranks import PeerError

    ranks = session.context.ranks
    try:
        for text in execute(session, command, now):
            _tell(text)
    except InstasegError as error:
        code = FAILED if session.started else WRONG_USAGE
        if ranks.first:
            return _complain(error, code)
        return code if isinstance(error, PeerError) else _complain(f"{ranks}: {error}", code)
    except KeyboardInterrupt:
        folder = session.context.experiment.folder
        told = f"interrupted; go on with the same command and -id {folder}"
        return _complain(told, INTERRUPTED) if ranks.first else INTERRUPTED
    return DONE


class _Parser(argparse.ArgumentParser):
    """Answers a wrong command line in one line, with the nearest flag."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and leave with 2."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            message = "; ".join(map(self._unknown, unknown.split())) or message
        message = message.removeprefix("argument ")
        self.exit(WRONG_USAGE, f"{self.prog}: {message}; {self.prog} --help lists all flags\n")

    def _unknown(self, word: str) -> str:
        if not word.startswith("-"):
            return f'"{word}": expected a flag'
        if word.partition("=")[0] in PUBLISHED_FLAGS:
            return f"{word}: {PUBLISHED_FLAGS[word.partition('=')[0]]}"
        flags = [flag for action in self._actions for flag in action.option_strings]
        near = get_close_matches(word.partition("=")[0], flags, n=1)
        return f"{word}: unknown flag" + (f", did you mean {near[0]}?" if near else "")


PUBLISHED_FLAGS = {
    "--skip_predict": "finished predictions are kept; leave it out, or name stages after --do",
    "--only_predict_decode": "use --do predict decode",
    "--run_from_exp": "an experiment keeps its setup's code; go on with it by -id",
}
"""Flags of the published PatchPerPix that are gone: what replaces them."""


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'expected a whole number, found "{text}"') from error


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    words = "\n".join(
        [f"  {name:<21} = {' '.join(stages)}" for name, stages in ALIASES.items()]
        + [f"  {stage.name:<21} {stage.summary}" for stage in STAGES]
    )
    result = _Parser(
        prog="run_ppp.py",
        description="Train a network on images with labelled instances, and segment new images.",
        epilog=f"stages:\n{words}\n\n{IMPORT_BIAPY} CONFIG.yaml, as first word, translates a"
        f" configuration of BiaPy; see {IMPORT_BIAPY} --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_experiment(result.add_argument_group("experiment"))
    _add_data(result.add_argument_group("data"))
    _add_execution(result.add_argument_group("execution"))
    return result


def import_parser() -> argparse.ArgumentParser:
    """Return the parser of what follows ``import-biapy``."""
    result = _Parser(
        prog=f"run_ppp.py {IMPORT_BIAPY}",
        description="Translate a configuration of BiaPy (YAML) to one of this program (TOML).",
        allow_abbrev=False,
    )
    add = result.add_argument
    add("file", type=Path, metavar="CONFIG.yaml", help="configuration of BiaPy")
    add("--out", type=Path, metavar="FILE.toml", help="what to write (default: the terminal)")
    add(
        "--letters",
        choices=("biapy_before_3.0", "biapy_3.0_to_3.5", "biapy_from_3.6"),
        help="versions of BiaPy it was written for (default: as the file tells)",
    )
    return result


def _import_biapy(words: Sequence[str]) -> int:
    """Translate a file; write the result, and what there is to say about it to the terminal."""
    arguments = import_parser().parse_args(words)
    try:
        from instaseg.config.import_biapy import import_biapy
        from instaseg.io.text import write_text

        if arguments.out is not None and arguments.out.exists():
            return _complain(f"--out {arguments.out}: expected a new file, found one", WRONG_USAGE)
        found = import_biapy(arguments.file, letters=arguments.letters)
        if arguments.out is not None:
            write_text(arguments.out, found.toml)
    except InstasegError as error:
        return _complain(error, WRONG_USAGE)
    except OSError as error:
        return _complain(f"{error}; check path and permissions", WRONG_USAGE)
    sys.stderr.write("".join(f"- {remark}\n" for remark in found.remarks))
    return _tell(found.toml.rstrip() if arguments.out is None else f"written: {arguments.out}")


def _add_experiment(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--do", nargs="+", required=True, metavar="STAGE", help="what to do, see below")
    add("--app", help="data set and question; by default where --config lies, else dsb2018")
    add("--setup", help="one way to solve it (default setup01)")
    add(
        "--config",
        action="append",
        metavar="FILE",
        help="configuration, in the working directory or the setup's folder; may be repeated, later"
        " files win (default default.toml)",
    )
    add(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="TABLE.KEY=VALUE",
        help="one value of the configuration; may be repeated, wins over files",
    )
    add(
        "--root",
        type=Path,
        default=Path("runs"),
        metavar="FOLDER",
        help="where a new experiment folder is made (default runs)",
    )
    add(
        "-id",
        "--id",
        type=Path,
        dest="experiment",
        metavar="FOLDER",
        help="experiment folder to go on with",
    )
    add(
        "--with",
        nargs="+",
        type=Path,
        default=[],
        dest="others",
        metavar="FOLDER",
        help="other experiment folders, for --do compare",
    )
    add("--comment", default="", help="a note kept in provenance.toml")


def _add_data(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    for name in ("train", "val", "test"):
        add(f"--{name}-data", type=Path, metavar="FOLDER", help=f"{name} samples")
    add("--input-format", choices=("auto", "zarr", "hdf", "tiff"), help="format of the samples")
    add(
        "--sample",
        action="append",
        default=[],
        metavar="NAME",
        help="only this test sample; may be repeated",
    )
    add("--validate_on_train", action="store_true", help="validate on the training samples")
    add("--test_on_train", action="store_true", help="predict and evaluate the training samples")


def _add_execution(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--checkpoint", type=_whole_number, metavar="N", help="use the checkpoint of this iteration"
    )
    add(
        "--test-checkpoint",
        choices=("best", "last"),
        help="which checkpoint predicts (default: best if validated, else last)",
    )
    add("--device", choices=("auto", "cpu", "cuda"), help="where networks run")
    add(
        "--workers",
        type=_whole_number,
        metavar="N",
        help="processes that label and evaluate samples",
    )
    add("--scheduler", metavar="ADDRESS", help="address of a dask scheduler to use instead")
    add("--overwrite", action="store_true", help="do the named stages again from the start")
    add(
        "--debug_args",
        action="store_true",
        help="a quick pass: 10 iterations, 2 samples of each data set",
    )
    add("--dry-run", action="store_true", help="print the plan and check it; write nothing")


def _tell(text: str) -> int:
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Who reads has gone (`| head`): the work goes on, and what is left in the buffer too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE


def _complain(error: object, code: int) -> int:
    sys.stderr.write(f"run_ppp.py: {error}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())

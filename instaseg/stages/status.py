"""``--do status``: what is done, half done and missing in an experiment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from instaseg.errors import InstasegError
from instaseg.stages.classify import classify_task
from instaseg.stages.context import Context, Dataset
from instaseg.stages.decoding import is_decoded
from instaseg.stages.evaluate import is_evaluated
from instaseg.stages.label import instances_fingerprint
from instaseg.stages.postprocess import instances_path, repaired_fingerprint
from instaseg.stages.predicting import is_predicted
from instaseg.stages.results.table import RESULTS
from instaseg.stages.selection import Selection, read_verdicts, select
from instaseg.stages.stored import stored_fingerprint
from instaseg.stages.tables import text_table
from instaseg.training.checkpoints import list_checkpoints


def run(context: Context) -> str:
    """Return a table of the stages and what they have done; changes nothing."""
    experiment = context.experiment
    checkpoints = list_checkpoints(experiment.checkpoints)
    last, goal = max(checkpoints, default=0), context.config.training.max_iterations
    rows = [
        _row("mknet", _done(experiment.network_folder / "network.toml")),
        _row(
            "train",
            "missing" if not checkpoints else "has checkpoints",
            f"iteration {last} of at most {goal}",
        ),
    ]
    if checkpoints:
        validated = len(read_verdicts(context))
        rows.append(
            _row(
                "validate_checkpoints",
                _state(validated, len(checkpoints)),
                f"{validated} of {len(checkpoints)} checkpoints",
            )
        )
        rows += _sample_rows(context)
    rows.append(_row("visualize", _done(experiment.report_folder / "index.html")))
    return f"{experiment.folder}\n{text_table(rows)}"


def _sample_rows(context: Context) -> list[dict[str, str]]:
    """Return the rows of the stages that work sample by sample."""
    try:
        dataset, selection = context.dataset("test"), select(context)
    except InstasegError as error:
        return [_row("predict ... evaluate", "unknown", str(error))]
    counts = {name: _count(dataset, done) for name, done in _checks(context, dataset, selection)}
    total = len(dataset.samples)
    of = f"samples, checkpoint {selection.checkpoint}, {selection.parameters.name}"
    return [
        _row(name, _state(count, total), f"{count} of {total} {of}")
        for name, count in counts.items()
    ]


def _checks(
    context: Context, dataset: Dataset, selection: Selection
) -> list[tuple[str, Callable[[int], bool]]]:
    """Return, by stage, whether the sample of a number is done."""
    samples = dataset.samples
    paths = [instances_path(context, dataset, sample, selection) for sample in samples]
    kind, coding = RESULTS[context.method.result], context.method.coding

    def decoded(i: int) -> bool:
        return is_decoded(context, dataset, samples[i], selection)

    def classified(i: int) -> bool:
        return classify_task(context, dataset, samples[i], selection).is_done

    return [
        ("predict", lambda i: is_predicted(context, dataset, samples[i], selection.checkpoint)),
        *([("decode", decoded)] if coding is not None and coding.decodes_in == "stage" else []),
        (
            "label",
            lambda i: (
                stored_fingerprint(paths[i], kind.key)
                == instances_fingerprint(context, samples[i], selection)
            ),
        ),
        (
            "postprocess",
            lambda i: (
                kind.repaired is None
                or stored_fingerprint(paths[i], kind.repaired)
                == repaired_fingerprint(context, samples[i], selection)
            ),
        ),
        *([("classify", classified)] if context.method.instance_classes else []),
        ("evaluate", lambda i: is_evaluated(context, dataset, samples[i], selection)),
    ]


def _count(dataset: Dataset, done: Callable[[int], bool]) -> int:
    return sum(done(i) for i in range(len(dataset.samples)))


def _state(count: int, total: int) -> str:
    if count == 0:
        return "missing"
    return "done" if count == total else "half done"


def _done(file: Path) -> str:
    return "done" if file.exists() else "missing"


def _row(stage: str, state: str, detail: str = "") -> dict[str, str]:
    return {"stage": stage, "state": state, "": detail}

"""``--do visualize``: curves, overlays and ``report/index.html``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from instaseg.io.arrays import open_array
from instaseg.io.samples import Sample
from instaseg.io.text import to_toml, write_text
from instaseg.metrics.summary import average_scores, worst_samples
from instaseg.progress import progress
from instaseg.report.curves import loss_figure
from instaseg.report.figures import save_figure
from instaseg.report.html import Page, Picture, report_html
from instaseg.stages.context import Context, Dataset
from instaseg.stages.evaluate import (
    average_row,
    baseline_scores,
    chosen_baseline,
    method_scores,
    method_task,
    method_tasks,
    score_row,
    with_labels,
)
from instaseg.stages.postprocess import finished_key, instances_path, require_instances
from instaseg.stages.results.kind import Scores, Subject
from instaseg.stages.results.table import RESULTS
from instaseg.stages.scoring import finished_scores
from instaseg.stages.selection import Selection, best_file, select
from instaseg.training.logs import read_log

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def run(context: Context) -> str:
    """Draw losses, scores and one overlay per sample; write the page that shows them.

    Samples are read part by part; memory is that of a part and of the picture, which has one plane.
    With ``--sample`` only these are drawn; the page shows them beside what was drawn before.
    """
    dataset, selection = context.dataset("test"), select(context)
    require_instances(context, dataset, selection)
    scored = with_labels(dataset)
    tasks = method_tasks(context, scored, selection)
    scores = method_scores(context, tasks, selection) if tasks else {}
    settings = selection.parameters.evaluation
    if scores and chosen_baseline(context, settings) is not None:
        baseline_scores(context, scored, settings)
    _draw(context, dataset, selection, scores)
    everything = context.with_all_samples().dataset("test") if context.options.samples else dataset
    page = _page(context, everything, selection)
    file = context.experiment.report_folder / "index.html"
    write_text(file, report_html(page))
    return f"report: {file}"


def _page(context: Context, dataset: Dataset, selection: Selection) -> Page:
    """Return the page of all samples of `dataset` that were scored or drawn."""
    labelled = dataset.labelled()
    settings, kind = selection.parameters.evaluation, RESULTS[context.method.result]
    scores = finished_scores(method_tasks(context, labelled, selection))
    methods = {f"checkpoint {selection.checkpoint}": scores} if scores else {}
    baseline = chosen_baseline(context, settings)
    if scores and baseline is not None:
        those = Dataset(labelled.name, tuple(s for s in labelled.samples if s.name in scores))
        methods[baseline.name] = baseline_scores(context, those, settings)
    return Page(
        title=context.experiment.folder.name,
        summary=(
            f"Checkpoint {selection.checkpoint}, parameters {selection.parameters.name},"
            f" {len(dataset.samples)} samples of {dataset.name}.",
        ),
        scores=[average_row(name, of_all, settings, kind) for name, of_all in methods.items()],
        curves=_curves(context, selection, methods),
        samples=[score_row(name, of_one, settings) for name, of_one in scores.items()],
        overlays=_overlays(context, dataset, selection, scores),
        links=_links(context),
        provenance=_provenance(context.experiment.provenance_file),
    )


def _save(context: Context, figure: Figure, name: str, caption: str) -> Picture:
    """Save a figure beside the page."""
    save_figure(figure, context.experiment.report_folder / name, dpi=context.config.visualize.dpi)
    return Picture(name, caption)


def _curves(
    context: Context, selection: Selection, methods: Mapping[str, Mapping[str, Scores]]
) -> list[Picture]:
    pictures = []
    log = context.experiment.train_folder / "logs" / "log.csv"
    if log.exists() and (rows := read_log(log)):
        pictures.append(_save(context, loss_figure(rows), "loss.png", "Training"))
    kind = RESULTS[context.method.result]
    if methods and kind.chart is not None:
        settings = selection.parameters.evaluation
        averages = {
            name: average_scores(list(scores.values()), settings.average, kind.pool)
            for name, scores in methods.items()
        }
        pictures.append(
            _save(context, kind.chart(averages, settings), "scores.png", kind.chart_caption)
        )
    return pictures


def _draw(
    context: Context, dataset: Dataset, selection: Selection, scores: Mapping[str, Scores]
) -> None:
    """Draw the samples ``[visualize]`` asks for, and note what each picture was made from."""
    drawn = _drawn(context) if context.options.samples else {}
    most = context.config.visualize.max_samples
    chosen = _in_order(context, dataset, selection, scores)[:most]
    for sample in progress(chosen, "overlays"):
        figure = _overlay(context, dataset, sample, selection)
        save_figure(figure, _overlay_file(context, sample.name), dpi=context.config.visualize.dpi)
        drawn[sample.name] = _made_from(context, dataset, sample, selection)
    write_text(_drawn_file(context), to_toml({"drawn": drawn}))


def _overlays(
    context: Context, dataset: Dataset, selection: Selection, scores: Mapping[str, Scores]
) -> list[Picture]:
    """Return the pictures that show the present results, in the order of ``[visualize]``."""
    drawn = _drawn(context)
    return [
        Picture(f"overlays/{sample.name}.png", sample.name)
        for sample in _in_order(context, dataset, selection, scores)
        if drawn.get(sample.name) == _made_from(context, dataset, sample, selection)
        and _overlay_file(context, sample.name).exists()
    ]


def _in_order(
    context: Context, dataset: Dataset, selection: Selection, scores: Mapping[str, Scores]
) -> list[Sample]:
    """Return the samples in the order in which they are shown."""
    names = [sample.name for sample in dataset.samples]
    if context.config.visualize.order == "worst_first":
        metric = selection.parameters.evaluation.metric
        worst = [name for name, _ in worst_samples(scores, metric, len(scores))]
        names = [*worst, *(name for name in names if name not in scores)]
    by_name = {sample.name: sample for sample in dataset.samples}
    return [by_name[name] for name in names]


def _overlay_file(context: Context, sample: str) -> Path:
    return context.experiment.report_folder / "overlays" / f"{sample}.png"


def _drawn_file(context: Context) -> Path:
    """Return the file that says what each overlay was made from."""
    return context.experiment.report_folder / "overlays" / "drawn.toml"


def _drawn(context: Context) -> dict[str, str]:
    """Return the fingerprint of every overlay by sample; none where the file is damaged."""
    try:
        table = tomllib.loads(_drawn_file(context).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return dict(table.get("drawn", {}))


def _made_from(context: Context, dataset: Dataset, sample: Sample, selection: Selection) -> str:
    """Return the fingerprint of the result an overlay shows and of what it is compared by."""
    return method_task(context, dataset, sample, selection).fingerprint


def _overlay(context: Context, dataset: Dataset, sample: Sample, selection: Selection) -> Figure:
    path = instances_path(context, dataset, sample, selection)
    result = open_array(path, finished_key(context, sample, path, selection))
    subject = Subject(sample, context.method_spec, selection.parameters.evaluation)
    return RESULTS[context.method.result].overlay(result, subject, context.config.visualize)


def _links(context: Context) -> dict[str, str]:
    """Return the files worth a look that exist, relative to the page."""
    experiment = context.experiment
    files = {
        "configuration": experiment.config_file,
        "provenance": experiment.provenance_file,
        "network": experiment.network_folder / "network.txt",
        "training log": experiment.train_folder / "logs" / "log.csv",
        "validation": experiment.validation_results(best_file(context).parent.name),
        "messages": experiment.log_file,
    }
    return {
        name: f"../{file.relative_to(experiment.folder).as_posix()}"
        for name, file in files.items()
        if file.exists()
    }


def _provenance(file: Path) -> dict[str, str]:
    """Return what the page says about the last run."""
    run_table = tomllib.loads(file.read_text(encoding="utf-8"))["run"][-1]
    shown = {
        "command": " ".join(run_table["command"]),
        "started": run_table["started"],
        "host": run_table["host"],
        "commit": run_table["code"]["commit"],
        "seed": str(run_table["seed"]),
    }
    return shown | {name: str(version) for name, version in run_table["versions"].items()}

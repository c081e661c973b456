"""``--do visualize``: curves, overlays and ``report/index.html``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from instaseg.io.arrays import open_array
from instaseg.io.samples import Sample, read_whole
from instaseg.io.text import write_text
from instaseg.metrics.kinds import find_errors
from instaseg.metrics.summary import average_scores, worst_samples
from instaseg.progress import progress
from instaseg.report.curves import loss_figure, score_figure
from instaseg.report.figures import save_figure
from instaseg.report.html import Page, Picture, report_html
from instaseg.report.overlays import overlay_figure, prediction_figure
from instaseg.stages.context import Context, Dataset
from instaseg.stages.evaluate import (
    average_row,
    baseline_scores,
    finished_key,
    method_scores,
    score_row,
    with_labels,
)
from instaseg.stages.postprocess import instances_path, require_instances
from instaseg.stages.scoring import Scores
from instaseg.stages.selection import Selection, best_file, select
from instaseg.training.logs import read_log

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASELINE = "otsu + components"


def run(context: Context) -> str:
    """Draw losses, scores and one overlay per sample; write the page that shows them."""
    dataset, selection = context.dataset("test"), select(context)
    require_instances(context, dataset, selection)
    scored = with_labels(dataset)
    scores = method_scores(context, scored, selection) if scored.samples else {}
    methods = {f"checkpoint {selection.checkpoint}": scores} if scores else {}
    settings = selection.parameters.evaluation
    if scores and settings.baseline != "none":
        methods[BASELINE] = baseline_scores(context, scored, settings)
    page = Page(
        title=context.experiment.folder.name,
        summary=(
            f"Checkpoint {selection.checkpoint}, parameters {selection.parameters.name},"
            f" {len(dataset.samples)} samples of {dataset.name}.",
        ),
        scores=[average_row(name, of_all, settings) for name, of_all in methods.items()],
        curves=_curves(context, selection, methods),
        samples=[score_row(name, of_one, settings) for name, of_one in scores.items()],
        overlays=_overlays(context, dataset, selection, scores),
        links=_links(context),
        provenance=_provenance(context.experiment.provenance_file),
    )
    file = context.experiment.report_folder / "index.html"
    write_text(file, report_html(page))
    return f"report: {file}"


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
    if methods:
        settings = selection.parameters.evaluation
        averages = {
            name: average_scores(list(scores.values()), settings.average)
            for name, scores in methods.items()
        }
        figure = score_figure(averages, thresholds=settings.thresholds)
        pictures.append(_save(context, figure, "scores.png", "Score against the threshold"))
    return pictures


def _overlays(
    context: Context, dataset: Dataset, selection: Selection, scores: Mapping[str, Scores]
) -> list[Picture]:
    """Draw the samples ``[visualize]`` asks for."""
    settings = context.config.visualize
    metric = selection.parameters.evaluation.metric
    names = [sample.name for sample in dataset.samples]
    if settings.order == "worst_first":
        worst = [name for name, _ in worst_samples(scores, metric, len(scores))]
        names = [*worst, *(name for name in names if name not in scores)]
    by_name = {sample.name: sample for sample in dataset.samples}
    chosen = [by_name[name] for name in names[: settings.max_samples]]
    return [
        _save(
            context,
            _overlay(context, dataset, sample, selection),
            f"overlays/{sample.name}.png",
            sample.name,
        )
        for sample in progress(chosen, "overlays")
    ]


def _overlay(context: Context, dataset: Dataset, sample: Sample, selection: Selection) -> Figure:
    path = instances_path(context, dataset, sample, selection)
    instances = read_whole(open_array(path, finished_key(context, sample, path, selection)))
    raw, truth, settings = sample.read_raw(), sample.read_labels(), context.config.visualize
    if truth is None:
        return prediction_figure(raw, instances, settings=settings, title=sample.name)
    evaluation = selection.parameters.evaluation
    errors = find_errors(
        truth,
        instances,
        ndim=sample.ndim,
        threshold=settings.threshold,
        criterion=evaluation.localization_criterion,
        assignment=evaluation.assignment_strategy,
        remove_small=evaluation.remove_small_components,
    )
    return overlay_figure(raw, errors, settings=settings, title=sample.name)


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

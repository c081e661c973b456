"""Images of different types have cuts of their own, chosen by validation."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from instaseg.methods.deep_watershed.config import LabelSettings
from instaseg.methods.patches.config import LabelSettings as PatchLabels
from instaseg.metrics.config import EvaluationSettings
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.stages import image_types
from instaseg.stages.context import Context, Options
from instaseg.stages.labelling import for_type

METRIC = "confusion_matrix.avS"


@dataclass(frozen=True)
class Job:
    checkpoint: int
    parameters: SimpleNamespace
    sample: SimpleNamespace
    score: float


def named(values):
    return SimpleNamespace(name=str(sorted(values.items())), values=values)


def job(kind, cut, score, *, threshold=0.5, checkpoint=1):
    values = {"vote_instances.cut": cut, "vote_instances.fg_threshold": threshold}
    return Job(checkpoint, named(values), SimpleNamespace(kind=kind), score)


@pytest.fixture
def context(monkeypatch):
    """Return what stands for a context; scores are those of the jobs."""

    def average_row(context, jobs):
        del context
        first = jobs[0]
        return {
            "checkpoint": first.checkpoint,
            "parameters": first.parameters.name,
            "values": dict(first.parameters.values),
            METRIC: sum(one.score for one in jobs) / len(jobs),
        }

    def score_table(context, jobs):
        groups = {}
        for one in jobs:
            groups.setdefault((one.checkpoint, one.parameters.name), []).append(one)
        return [average_row(context, group) for group in groups.values()]

    monkeypatch.setattr(image_types, "average_row", average_row)
    monkeypatch.setattr(image_types, "score_table", score_table)
    return SimpleNamespace(config=SimpleNamespace(vote_instances=LabelSettings()), parameters=named)


def test_each_type_gets_the_cut_that_is_best_for_it(context):
    jobs = [
        job("cort", 1.0, 0.8),
        job("cort", 3.0, 0.5),
        job("astro", 1.0, 0.3),
        job("astro", 3.0, 0.4),
        job("astro", 3.0, 0.9, threshold=0.9),  # only with the others' worse threshold
        job("cort", 3.0, 0.0, threshold=0.9),
    ]
    (row,) = image_types.rows_with_types(context, jobs, METRIC)
    assert row["values"] == {
        "vote_instances.cut": 1.0,
        "vote_instances.fg_threshold": 0.5,
        "vote_instances.cut_of_type": ["astro 3", "cort 1"],
    }
    assert row[METRIC] == pytest.approx(0.6)
    assert "cut_of_type" in row["parameters"]


def test_types_that_agree_need_no_cuts_of_their_own(context):
    jobs = [job(kind, cut, 1 - cut / 10) for kind in ("cort", "astro") for cut in (1.0, 3.0)]
    assert image_types.rows_with_types(context, jobs, METRIC) == []


def test_images_without_types_are_left_alone(context):
    jobs = [job(None, 1.0, 0.5), job(None, 3.0, 0.6)]
    assert image_types.rows_with_types(context, jobs, METRIC) == []


def test_each_checkpoint_has_a_row(context):
    scores = {"cort": (0.8, 0.5), "astro": (0.3, 0.4)}
    jobs = [
        job(kind, cut, score, checkpoint=checkpoint)
        for checkpoint in (1, 2)
        for kind, both in scores.items()
        for cut, score in zip((1.0, 3.0), both, strict=True)
    ]
    rows = image_types.rows_with_types(context, jobs, METRIC)
    assert [row["checkpoint"] for row in rows] == [1, 2]


def test_methods_that_know_no_types_label_all_images_alike(context):
    context.config.vote_instances = PatchLabels()
    assert image_types.rows_with_types(context, [job("cort", 1.0, 0.5)], METRIC) == []
    assert for_type(PatchLabels(), "cort") == PatchLabels()
    typed = LabelSettings(cut_of_type=("cort 2",))
    assert for_type(typed, "cort").cut == 2.0


def test_a_cut_of_the_command_line_is_for_all_types():
    config = SimpleNamespace(
        vote_instances=LabelSettings(),
        postprocessing=PostprocessingSettings(),
        evaluation=EvaluationSettings(),
    )
    validated = {"vote_instances.cut": 1.0, "vote_instances.cut_of_type": ["astro 3"]}
    free = Context(config, None, None, Options(), None)
    assert free.parameters(validated).labelling.for_type("astro").cut == 3.0
    fixed = Context(config, None, None, Options(fixed={"vote_instances.cut": 2.0}), None)
    assert fixed.parameters(validated).labelling.for_type("astro").cut == 2.0

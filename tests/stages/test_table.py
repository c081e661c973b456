"""One table of stages feeds --do, its order, --help and the README."""

from pathlib import Path

import pytest

from instaseg.cli import import_parser, parser
from instaseg.errors import ConfigError
from instaseg.run.experiment import Experiment
from instaseg.stages.plan import ARTIFACTS, check_artifacts
from instaseg.stages.table import ALIASES, STAGES, expand, stage_table

README = Path(__file__).parents[2] / "README.md"

FLAGS = {
    "-h",
    "--help",
    "--do",
    "--app",
    "--setup",
    "--config",
    "--set",
    "--root",
    "-id",
    "--id",
    "--with",
    "--comment",
    "--train-data",
    "--val-data",
    "--test-data",
    "--input-format",
    "--sample",
    "--validate_on_train",
    "--test_on_train",
    "--checkpoint",
    "--test-checkpoint",
    "--device",
    "--workers",
    "--scheduler",
    "--overwrite",
    "--debug_args",
    "--dry-run",
}


IMPORT_FLAGS = {"-h", "--help", "--out", "--letters"}


def names(words):
    return [stage.name for stage in expand(words)]


def test_stages_run_once_in_the_order_of_the_table():
    assert names(["evaluate", "predict", "predict"]) == ["predict", "evaluate"]
    assert names(["infer", "train"]) == [
        *("train", "predict", "decode", "label", "classify", "evaluate")
    ]


def test_all_validates_checkpoints():
    """The published README says so and its code does not (row 3 of its known faults)."""
    assert "validate_checkpoints" in names(["all"])
    assert names(["all"]) == list(ALIASES["all"])


def test_an_autoencoder_is_trained_only_where_it_is_asked_for():
    assert "train_autoencoder" not in names(["all"])
    assert names(["train", "train_autoencoder"]) == ["train_autoencoder", "train"]


def test_an_unknown_word_gets_the_list_and_the_nearest():
    with pytest.raises(
        ConfigError,
        match=r'unknown stage "eval" \(did you mean evaluate\?\); stages: mknet, sample_pict',
    ):
        expand(["eval"])


def test_every_stage_has_a_module_with_run():
    folder = Path(__file__).parents[2] / "instaseg" / "stages"
    for stage in STAGES:
        assert "def run(context: Context)" in (folder / f"{stage.name}.py").read_text()


def test_help_names_every_stage():
    text = parser().format_help()
    assert all(f"  {stage.name} " in text for stage in STAGES)


def test_the_flags_are_these():
    found = {flag for action in parser()._actions for flag in action.option_strings}
    assert found == FLAGS


def test_the_flags_of_import_biapy_are_these():
    found = {flag for action in import_parser()._actions for flag in action.option_strings}
    assert found == IMPORT_FLAGS
    assert "import-biapy CONFIG.yaml" in parser().format_help()


def test_readme_shows_the_table_of_stages():
    assert stage_table() in README.read_text()


def test_what_a_stage_reads_must_exist_or_be_written_before(tmp_path):
    experiment = Experiment(tmp_path)
    with pytest.raises(
        ConfigError, match=r"--do label: expected a prediction .* run predict before it"
    ):
        check_artifacts(expand(["label"]), experiment)
    check_artifacts(expand(["train", "predict", "label"]), experiment)
    (tmp_path / "test" / "predicted" / "10" / "a.zarr").mkdir(parents=True)
    check_artifacts(expand(["label"]), experiment)


def test_artifacts_have_a_writer():
    written = {name for stage in STAGES for name in stage.writes}
    assert set(ARTIFACTS) == written

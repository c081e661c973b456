"""Parameter sets: combinations, names, ties."""

import math
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instaseg.errors import ConfigError
from instaseg.methods.patches.config import LabelSettings
from instaseg.metrics.config import EvaluationSettings
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.run.config import ValidationSettings
from instaseg.run.sweep import best_row, combinations, parameter_set, set_name, worth
from instaseg.settings import Table

TABLES = {
    "vote_instances": LabelSettings(),
    "postprocessing": PostprocessingSettings(),
    "evaluation": EvaluationSettings(),
}


def sweep(**values):
    return ValidationSettings.model_validate(values)


def test_product_runs_over_all_and_zip_in_step():
    settings = sweep(
        params_product=["a", "b"], params_zip=["c", "d"], a=[1, 2], b=[3], c=[4, 5], d=[6, 7]
    )
    assert [tuple(values.values()) for values in combinations(settings)] == [
        (1, 3, 4, 6),
        (1, 3, 5, 7),
        (2, 3, 4, 6),
        (2, 3, 5, 7),
    ]


def test_no_sweep_is_one_set_as_configured():
    assert combinations(sweep()) == [{}]
    assert parameter_set(TABLES, {}).name == "configured"


def test_names_of_different_lists_differ():
    """The published runner maps both to th__1_5_2_ (row 6 of its known faults)."""
    assert set_name({"vote_instances.th": [1.5, 2]}) != set_name({"vote_instances.th": [1, 5, 2]})


@given(
    st.dictionaries(
        st.sampled_from(["vote_instances.a", "vote_instances.b", "postprocessing.c"]),
        st.one_of(st.floats(0, 10), st.integers(), st.booleans(), st.text("a,=+/%_.", max_size=4)),
        min_size=1,
    )
)
def test_names_are_safe_and_tell_their_values(values):
    name = set_name(values)
    assert "/" not in name
    assert name not in {"", ".", ".."}
    pairs = dict(part.split("=", 1) for part in name.split(","))
    assert {unquote(key) for key in pairs} == {k.removeprefix("vote_instances.") for k in values}


def test_values_are_put_into_their_tables():
    values = {"vote_instances.patch_threshold": 0.7, "postprocessing.remove_small_comps": 9}
    parameters = parameter_set(TABLES, values)
    assert parameters.labelling.patch_threshold == 0.7
    assert parameters.postprocessing.remove_small_comps == 9
    assert TABLES["vote_instances"].patch_threshold == 0.5


class Inner(Table):
    """A table within a table."""

    shape: tuple[int, ...] = (2, 2)
    """A list."""
    word: str = "a"
    """A word."""


class Outer(Table):
    """A labelling table with a table inside."""

    plain: int = 1
    """A number."""
    inner: Inner = Inner()
    """A table."""


def test_a_sweep_reaches_into_nested_tables_and_tries_lists():
    settings = sweep(
        params_product=["inner.shape", "evaluation.thresholds", "vote_instances.plain"],
        **{
            "inner.shape": [[1], [3, 4]],
            "evaluation.thresholds": [[0.5, 0.25]],
            "vote_instances.plain": [7],
        },
    )
    values = combinations(settings)[1]
    assert values == {
        "vote_instances.inner.shape": [3, 4],
        "evaluation.thresholds": [0.5, 0.25],
        "vote_instances.plain": 7,
    }
    parameters = parameter_set(TABLES | {"vote_instances": Outer()}, values)
    assert parameters.labelling == Outer(plain=7, inner=Inner(shape=(3, 4)))
    assert parameters.evaluation.thresholds == (0.5, 0.25)
    assert parameters.name == "inner.shape=3+4,evaluation.thresholds=0.5+0.25,plain=7"
    assert parameters.instances_name == "inner.shape=3+4,plain=7"


def test_values_that_do_not_go_together_are_a_configuration_error():
    values = {"evaluation.localization_criterion": "cldice", "evaluation.centre_lines": "skip"}
    with pytest.raises(ConfigError, match=r"parameters evaluation.localization.*centre_lines must"):
        parameter_set(TABLES, values)


def test_long_names_end_in_a_digest():
    names = {
        set_name({f"vote_instances.parameter_{i}": 1 for i in range(40)} | {"vote_instances.z": z})
        for z in (1, 2)
    }
    assert len(names) == 2
    assert {len(name) for name in names} == {200}


def test_ties_go_to_the_earlier_checkpoint_then_to_the_first_listed():
    rows = [
        {"checkpoint": 20, "parameters": "a", "S": 0.5},
        {"checkpoint": 10, "parameters": "a", "S": 0.5},
        {"checkpoint": 10, "parameters": "b", "S": 0.5},
        {"checkpoint": 5, "parameters": "a", "S": 0.4},
    ]
    assert best_row(rows, "S") is rows[1]


def test_a_row_without_a_value_is_the_worst():
    rows = [{"checkpoint": 1, "S": math.nan}, {"checkpoint": 2, "S": 0.0}]
    assert best_row(rows, "S") is rows[1]
    assert best_row(rows, "S", better="lower") is rows[1]
    assert best_row(rows[:1], "S") is rows[0]


def test_a_score_that_does_not_exist_is_worth_less_than_any():
    assert max([math.nan, 0.0], key=lambda value: worth(value, "higher")) == 0.0
    assert max([math.nan, 7.0], key=lambda value: worth(value, "lower")) == 7.0


def test_fewer_errors_are_better():
    rows = [{"checkpoint": 1, "FS": 3}, {"checkpoint": 2, "FS": 1}]
    assert best_row(rows, "FS", better="lower") is rows[1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"params_product": ["a"]}, "a: must be a list of values"),
        ({"params_product": ["a"], "a": 3}, "a: must be a list of values"),
        ({"a": [1]}, "a: unknown key, or a list of values that neither"),
        ({"params_product": ["a"], "params_zip": ["a"], "a": [1]}, "a: named twice"),
        ({"params_zip": ["a", "b"], "a": [1], "b": [1, 2]}, "equally long"),
        (
            {
                "params_product": ["a", "vote_instances.a"],
                "a": [1],
                "vote_instances.a": [2],
            },
            "a: named twice",
        ),
        (
            {"params_product": ["evaluation.metric"], "evaluation.metric": ["x"]},
            "evaluation.metric: cannot be tried",
        ),
        ({"folds": "split_file"}, "folds = .split_file. and split_file must be given together"),
        ({"split_file": "a.toml"}, "must be given together"),
    ],
)
def test_sweeps_that_do_not_fit_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        sweep(**values)

"""Budget and learning rate, worked out by hand."""

import pytest

from instaseg.training.config import TrainingSettings
from instaseg.training.schedule import budget_used, learning_rate_factor


def test_the_nearer_end_counts():
    settings = TrainingSettings(max_iterations=100, max_minutes=2)
    assert budget_used(settings, 50, 30) == 0.5
    assert budget_used(settings, 50, 90) == 0.75
    assert budget_used(TrainingSettings(max_iterations=100), 50, 1e6) == 0.5


@pytest.mark.parametrize(
    ("schedule", "expected"),
    # At shares 0.1 (half of the warm-up), 0.2 (its end), 0.6 (half of the rest) and 1.
    [
        ("constant", [0.5, 1, 1, 1]),
        ("linear", [0.5, 1, 0.5, 0]),
        ("cosine", [0.5, 1, 0.5, 0]),
        ("polynomial", [0.5, 1, 0.5**0.9, 0]),
    ],
)
def test_learning_rate(schedule, expected):
    settings = TrainingSettings(schedule=schedule, warmup=0.2)
    found = [learning_rate_factor(settings, used) for used in (0.1, 0.2, 0.6, 1.0)]
    assert found == pytest.approx(expected)


def test_no_warmup_and_time_past_the_end():
    settings = TrainingSettings(schedule="cosine", warmup=0)
    assert learning_rate_factor(settings, 0.0) == 1.0
    assert learning_rate_factor(settings, 1.2) == pytest.approx(0.0)


def test_one_cycle_rises_and_falls_along_cosines():
    settings = TrainingSettings(schedule="one_cycle", warmup=0.2)
    found = [learning_rate_factor(settings, used) for used in (0.0, 0.1, 0.2, 0.6, 1.0)]
    assert found == pytest.approx([0.04, 0.52, 1, 0.5, 0])


def test_a_plateau_is_constant_but_for_its_reductions():
    settings = TrainingSettings(schedule="plateau", warmup=0.2)
    assert [learning_rate_factor(settings, used) for used in (0.1, 0.2, 1.0)] == [0.5, 1, 1]

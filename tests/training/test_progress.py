"""What follows from a row of validation losses."""

import pytest

from instaseg.training.config import TrainingSettings
from instaseg.training.progress import Progress


def after(losses, settings):
    """Return the progress after some losses, of iterations 10, 20 ..."""
    progress = Progress()
    for number, loss in enumerate(losses, start=1):
        progress = progress.after(loss, 10 * number, settings)
    return progress


def test_patience_counts_evaluations_since_the_lowest():
    settings = TrainingSettings(patience=3)
    assert not after([5, 4, 6, 4], settings).at_an_end(settings)
    found = after([5, 4, 6, 4, 7], settings)
    assert found.at_an_end(settings)
    assert (found.lowest, found.iteration, found.waited) == (4, 20, 3)
    assert not after([5, 4, 6, 4, 3.9], settings).at_an_end(settings)


def test_without_patience_training_never_ends_early():
    settings = TrainingSettings()
    assert not after([1] + [2] * 50, settings).at_an_end(settings)


def test_a_loss_that_is_no_number_is_not_lower():
    settings = TrainingSettings(patience=1)
    assert after([5, float("nan")], settings).at_an_end(settings)


@pytest.mark.parametrize(
    ("losses", "factor"), [([3, 3], 1), ([3, 3, 3], 0.1), ([3, 3, 3, 2, 2, 2, 2, 2], 0.001)]
)
def test_plateau_reduces_the_rate_after_every_wait(losses, factor):
    settings = TrainingSettings(schedule="plateau", plateau_patience=2, plateau_factor=0.1)
    assert after(losses, settings).rate_factor(settings) == pytest.approx(factor)


def test_other_schedules_are_not_reduced():
    settings = TrainingSettings(plateau_patience=1)
    assert after([3, 3, 3], settings).rate_factor(settings) == 1

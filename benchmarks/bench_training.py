"""Iterations of training on one batch, by size of the patch.

Run with ``pytest benchmarks/bench_training.py``; images per second are batch size over mean time.
"""

import itertools

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from instaseg.methods.base import Head
from instaseg.models.config import ModelSettings
from instaseg.models.network import build_network
from instaseg.training.config import OptimizerSettings, TrainingSettings
from instaseg.training.loop import TrainingRun, train

BATCH_SIZE = 4
ITERATIONS = 3


def _loss(outputs, batch):
    """Cross entropy of the patches of a quarter of the pixels, about the share of foreground."""
    rows = outputs["affs"].movedim(1, -1)[batch["chosen"]].float()
    part = binary_cross_entropy_with_logits(rows, torch.zeros_like(rows))
    return part, {"patch": part}


@pytest.mark.parametrize("precision", ["float32", "auto"])
@pytest.mark.parametrize("channels", [49, 625])
def test_iterations(benchmark, tmp_path, channels, precision):
    """Three iterations: network, loss, gradients, step, average."""
    model = ModelSettings()
    heads = [Head("affs", channels, "sigmoid", "volumes/pred_affs")]
    batch = {
        "raw": torch.rand(BATCH_SIZE, 1, 220, 220),
        "chosen": torch.rand(BATCH_SIZE, 132, 132) < 0.25,
    }
    settings = TrainingSettings(max_iterations=ITERATIONS, precision=precision)
    folders = itertools.count()

    def run():
        train(
            build_network(model, in_channels=1, ndim=2, heads=heads),
            _loss,
            run=TrainingRun(
                folder=tmp_path / str(next(folders)),
                settings=settings,
                optimizer=OptimizerSettings(),
                device=torch.device("cpu"),
                seed=0,
            ),
            batches=lambda _: itertools.repeat(batch),
        )

    benchmark.pedantic(run, rounds=3, warmup_rounds=1)

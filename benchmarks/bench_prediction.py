"""Prediction of one image of 256x256 pixels, by size of the patch and precision.

Run with ``pytest benchmarks/bench_prediction.py``.
"""

import numpy as np
import pytest
import torch

from instaseg.inference.config import PredictionSettings
from instaseg.inference.predict import Predictor, predict_sample, prediction_shape
from instaseg.methods.base import Head
from instaseg.models.config import ModelSettings
from instaseg.models.network import build_network

SIZE = (256, 256)
MARGIN = (12, 12)


@pytest.mark.parametrize("symmetries", ["none", "flips"])
@pytest.mark.parametrize("precision", ["float32", "auto"])
@pytest.mark.parametrize("channels", [49, 625])
def test_image(benchmark, channels, precision, symmetries):
    """All tiles of an image, from raw values to 16-bit numbers in memory."""
    model = ModelSettings()
    head = Head("affs", channels, "sigmoid", "volumes/pred_affs")
    predictor = Predictor(
        build_network(model, in_channels=1, ndim=2, heads=[head]),
        [head],
        model,
        PredictionSettings(precision=precision, symmetries=symmetries),
        torch.device("cpu"),
    )
    raw = np.random.default_rng(0).random((1, *SIZE), np.float32)
    writers = {"affs": np.empty(prediction_shape(head, SIZE, MARGIN), np.float16)}

    def run():
        predict_sample(
            predictor, raw, normalize=lambda block: block, writers=writers, margin=MARGIN
        )

    benchmark.pedantic(run, rounds=2, warmup_rounds=1)

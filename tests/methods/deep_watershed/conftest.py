"""A small method, and images of cells."""

import importlib.util
import sys
from pathlib import Path

import pytest

from instaseg.data.config import DataSettings
from instaseg.methods.deep_watershed.config import DeepWatershedSettings
from instaseg.methods.deep_watershed.method import DeepWatershedMethod
from instaseg.models.config import ModelSettings

APP = Path(__file__).parents[3] / "experiments" / "sartorius"


def build(*, ndim=2, levels=2, padding="same", voxel_size=None, **settings):
    model = ModelSettings(
        num_fmaps=2,
        downsample_factors=((2,) * ndim,) * levels,
        padding=padding,
        train_input_shape=(32 if padding == "same" else 36,) * ndim,
        test_input_shape=(64,) * ndim,
    )
    data = DataSettings(ndim=ndim, voxel_size=voxel_size)
    return DeepWatershedMethod(DeepWatershedSettings(**settings), model=model, data=data)


@pytest.fixture(scope="session")
def make_method():
    """Return a function that makes a method from keys of ``[method]``."""
    return build


@pytest.fixture
def method():
    """Return the method with its defaults."""
    return build()


@pytest.fixture(scope="session")
def cells():
    """Return the script that draws cells."""
    spec = importlib.util.spec_from_file_location("sartorius_generate", APP / "generate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module

"""A small volume with sites of synapses, and what a perfect network would predict of it."""

from dataclasses import dataclass

import numpy as np
import pytest

from instaseg.data.config import DataSettings
from instaseg.data.points import PointLayers
from instaseg.geometry import whole
from instaseg.io.points import make_points
from instaseg.methods.synapses.config import SynapsesSettings
from instaseg.methods.synapses.method import SynapsesMethod
from instaseg.models.config import ModelSettings

SPACING = (4.0, 1.0, 1.0)
SHAPE = (10, 40, 44)


def drawn(seed=0):
    """Return a table of presynaptic sites, each with one or two postsynaptic ones."""
    rng = np.random.default_rng(seed)
    kinds, places, partner = [], [], []
    for y in (6, 20, 33):
        for x in (6, 21, 37):
            pre = len(kinds)
            centre = np.array([rng.integers(2, 8), y, x])
            kinds.append(0)
            places.append(centre)
            partner.append(-1)
            for step in [(0, 0, 5), (0, 5, 0)][: rng.integers(1, 3)]:
                kinds.append(1)
                places.append(centre + step)
                partner.append(pre)
    return make_points(kinds, np.array(places), partner=partner)


@pytest.fixture(scope="session")
def sites():
    return drawn()


@dataclass(frozen=True)
class Perfect:
    """A method and its perfect prediction of a table."""

    method: SynapsesMethod
    prediction: dict


def built(ndim=3, **settings):
    """Return a method with the settings that fit the small volume."""
    given = {"blob_radius": 3.5, "partner_distance": 8.0, **settings}
    shape = [16] * ndim
    return SynapsesMethod(
        SynapsesSettings(**given),
        model=ModelSettings(
            num_fmaps=4,
            downsample_factors=[[2] * ndim],
            train_input_shape=shape,
            test_input_shape=shape,
            padding="same",
        ),
        data=DataSettings(ndim=ndim, voxel_size=SPACING[-ndim:]),
    )


def predicted(table, *, shape=SHAPE, **settings):
    """Return a method and its targets of a whole volume as the prediction."""
    method = built(len(shape), **settings)
    labels = PointLayers(table, shape).in_box(whole(shape).grow(method.context))
    targets = method.targets(labels, method.spacing)
    heads = {
        name: targets["blobs"][number : number + 1].astype(np.float16)
        for number, name in enumerate(method.predicted)
    }
    if "vectors" in targets:
        heads["vectors"] = targets["vectors"].astype(np.float16)
    return Perfect(method, heads)


@pytest.fixture(scope="session")
def draw_sites():
    """Return what draws other sites by a seed."""
    return drawn


@pytest.fixture(scope="session")
def build():
    """Return what builds a method."""
    return built


@pytest.fixture(scope="session")
def perfect():
    """Return what gives a method and its perfect prediction."""
    return predicted

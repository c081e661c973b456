"""How long decoding of channels takes: ``pytest benchmarks/bench_channels.py``.

Watershed decoding is to take less than 0.5 s for an image of 1024 x 1024 voxels with 800 nuclei,
less than 3 s for a volume of 128 x 256 x 256, on two cores with nothing else on them, and any
decoding 6 to 20 ms for an image of 256 x 256.
"""

import numpy as np
import pytest

from instaseg.methods.channels.config import ChannelsSettings, LabelSettings
from instaseg.methods.channels.decoding import label_prediction
from instaseg.methods.channels.instances import Instances
from instaseg.methods.channels.registry import channels_of
from instaseg.methods.channels.targets import target
from instaseg.regions.distance import nearest

SETS = {
    "FC": ["foreground", "contour"],
    "BCD": ["interior", "contour", "distance"],
    "BCDv2": ["interior", "contour", "ridge"],
    "FD": ["foreground", "distance"],
    "stars": ["distance", "rays"],
    "flow": ["foreground", "flow"],
    "affinities": ["affinities"],
}
OFFSETS = {2: [[-1, 0], [0, -1], [-9, 0], [0, -9]], 3: [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]}


def nuclei(shape, number, radius):
    """Return about `number` balls at random places, cut where they meet."""
    rng = np.random.default_rng(0)
    points = np.zeros(shape, np.int32)
    places = tuple(rng.integers(0, n, number) for n in shape)
    points[places] = np.arange(1, number + 1)
    return nearest(points, (1.0,) * len(shape), most=radius)[0]


def predicted(labels, names):
    """Return channels as a network might give them: true ones, blurred, with noise."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(1)
    tables = {"distance": {"learnt": "everywhere"}, "affinities": {"offsets": OFFSETS[labels.ndim]}}
    settings = ChannelsSettings.model_validate(
        {"channels": names, **{name: table for name, table in tables.items() if name in names}}
    )
    instances = Instances(labels, (1.0,) * labels.ndim)
    prediction = {}
    for one in channels_of(settings, labels.ndim):
        true = np.asarray(target(one, instances, settings), np.float32)
        blurred = np.stack([gaussian_filter(each, 0.7) for each in true])
        noise = gaussian_filter(rng.normal(0, 0.2, true.shape), (0, *(1.0,) * labels.ndim))
        values = (blurred + noise).astype(np.float32)
        if one.activation == "sigmoid":
            prediction[one.name] = np.rint(255 * values.clip(0, 1)).astype(np.uint8)
        else:
            prediction[one.name] = values.astype(np.float16)
    return settings, prediction


def decode(settings, prediction):
    return next(label_prediction(prediction, [LabelSettings()], settings=settings))


@pytest.mark.parametrize("name", SETS)
def test_800_nuclei_in_1024_x_1024(benchmark, name):
    settings, prediction = predicted(nuclei((1024, 1024), 800, 12.0), SETS[name])
    found = benchmark.pedantic(decode, (settings, prediction), rounds=5, warmup_rounds=1)
    assert 300 < found.max() < 1500


@pytest.mark.parametrize("name", SETS)
def test_50_nuclei_in_256_x_256(benchmark, name):
    settings, prediction = predicted(nuclei((256, 256), 50, 12.0), SETS[name])
    found = benchmark.pedantic(decode, (settings, prediction), rounds=20, warmup_rounds=1)
    assert 20 < found.max() < 100


@pytest.mark.parametrize("name", ["FC", "BCD", "BCDv2"])
def test_volume_of_128_x_256_x_256(benchmark, name):
    settings, prediction = predicted(nuclei((128, 256, 256), 400, 14.0), SETS[name])
    found = benchmark.pedantic(decode, (settings, prediction), rounds=3, warmup_rounds=1)
    assert found.max() > 200

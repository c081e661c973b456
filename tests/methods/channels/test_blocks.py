"""Channels decoded in blocks give label by label what the whole gives, for every preset."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from instaseg.blockwise.scheduler import Pool, Workers
from instaseg.blockwise.store import open_store
from instaseg.blockwise.work import BlockWork
from instaseg.errors import ConfigError
from instaseg.io.arrays import write_array
from instaseg.methods.base import Head
from instaseg.methods.channels.blocks import block_shape, label_blocks
from instaseg.methods.channels.config import ChannelsSettings, LabelSettings
from instaseg.methods.channels.decoding import label_prediction
from instaseg.methods.channels.presets import PRESETS
from instaseg.methods.channels.registry import channels_of

OFFSETS = ("offset_z", "offset_y", "offset_x")
SHAPES = {2: (29, 31), 3: (9, 14, 13)}
BLOCKS = {2: (11, 16), 3: (5, 8, 13)}
FAR = [(-1, 0), (0, -1), (-3, 4), (5, 0)]


def serial(function, tasks, step):
    """Run tasks here, the last first."""
    assert step
    return [function(task) for task in reversed(tasks)][::-1]


class Memory(dict):
    """A store without a disk."""

    def has(self, step, block):
        return (step, block) in self

    def write(self, step, block, arrays):
        self[step, block] = {name: np.array(values) for name, values in arrays.items()}

    def read(self, step, block, names=None):
        arrays = self[step, block]
        return {name: arrays[name] for name in (names or arrays)}


def first_set(preset, ndim):
    """Return the names of the channels of a preset's first set."""
    words = next(c for c in itertools.product(*preset.parts) if len(set(c)) == len(c))
    return [n for word in words for n in (OFFSETS[3 - ndim :] if word == "offsets" else [word])]


def settings_of(names, ndim, **tables):
    usual = {"distance": {"learnt": "everywhere"}, "rays": {"number": 8}}
    if ndim == 2:
        usual["affinities"] = {"offsets": FAR}
    own = {key: value for key, value in usual.items() if key in names}
    return ChannelsSettings.model_validate({"channels": names, **own, **tables})


def noise(settings, shape, seed=0):
    """Return a prediction without any sense, as it is stored: with few values, and equal ones."""
    random = np.random.default_rng(seed)
    prediction = {}
    for one in channels_of(settings, len(shape)):
        values = random.standard_normal((one.channels, *shape))
        values = gaussian_filter(values, [0] + [1.5] * len(shape))
        values /= values.std()
        if one.name == "flow":
            values /= np.linalg.norm(values, axis=0)
        elif one.name == "rays":
            values = 4 + values
        elif np.isfinite(one.high):
            values = one.low + (one.high - one.low) * np.clip(0.5 + 0.3 * values, 0, 1)
        stored = np.round(values * 20) / 20 if one.activation == "none" else np.rint(values * 255)
        prediction[one.name] = stored.astype(np.float16 if one.activation == "none" else np.uint8)
    return prediction


def store_prediction(folder, prediction):
    for name, values in prediction.items():
        write_array(folder, f"volumes/pred_{name}", values)
    return folder


def in_blocks(path, block, parameters, settings, *, store, run=serial, spacing=None):
    spacing = spacing or (1.0,) * len(block)
    work = BlockWork(block, store, run)
    labels = label_blocks(path, parameters, work, settings=settings, spacing=spacing)
    found = np.zeros(labels.shape, np.int32)
    for place, values in labels.parts():
        assert values.dtype == np.int32
        found[place] = values
    return found


def both(tmp_path, names, block, labelling=None, spacing=None, **tables):
    """Return the labels of noise decoded as a whole, and in blocks."""
    ndim = len(block)
    settings = settings_of(names, ndim, **tables)
    prediction = noise(settings, SHAPES[ndim])
    if names == ["ridge"] and labelling is None:
        # most low regions of noise touch the border
        labelling = {"seed_distance": 0.4, "background_seeds": "large", "max_object": 200.0}
    parameters = LabelSettings.model_validate(labelling or {})
    whole = next(label_prediction(prediction, [parameters], settings=settings, spacing=spacing))
    path = store_prediction(tmp_path / "prediction.zarr", prediction)
    found = in_blocks(path, block, parameters, settings, store=Memory(), spacing=spacing)
    return whole, found


CASES = [
    pytest.param(first_set(preset, ndim), block, id=f"{preset.name}-{ndim}")
    for preset in PRESETS
    for ndim, block in BLOCKS.items()
]


@pytest.mark.parametrize(("names", "block"), CASES)
def test_every_preset_in_blocks_is_that_of_the_whole(tmp_path, names, block):
    whole, found = both(tmp_path, names, block)
    assert found.max() == whole.max() > 0
    assert (found == whole).all()


@pytest.mark.parametrize("names", [["interior", "ridge"], ["foreground", "flow"], ["ridge"]])
@pytest.mark.parametrize("block", [(29, 3), (1, 31)])
def test_thin_blocks(tmp_path, names, block):
    whole, found = both(tmp_path, names, block)
    assert found.max() == whole.max() > 0
    assert (found == whole).all()


OPTIONS = {
    "otsu": (
        ["foreground", "contour"],
        {"seed_foreground": "otsu", "mask_foreground": "otsu_half"},
    ),
    "otsu of made maps": (["foreground", "affinities"], {"seed_affinity": "otsu"}),
    "morphology": (
        ["interior", "contour"],
        {
            "seed_steps": ["erode", "close"],
            "seed_radii": [1.0, 2.0],
            "mask_steps": ["open", "dilate"],
            "mask_radii": [1.5, 2.5],
        },
    ),
    "smoothing": (["foreground"], {"seed_smoothing": 1.3, "surface_smoothing": 2.2}),
    "peaks": (["foreground", "distance"], {"seed_peaks": 3.0}),
    "sizes": (["foreground", "contour"], {"min_seed": 6.0, "min_object": 30.0}),
    "drop unseeded": (["foreground", "contour"], {"unseeded": "drop", "min_seed": 4.0}),
    "mask only": (["foreground", "distance"], {"surface_smoothing": 1.0}),
    "ridge by size": (
        ["ridge"],
        {"max_object": 20.0, "background_seeds": "large", "seed_distance": 0.4},
    ),
    "ridge at the border": (["ridge"], {"seed_distance": 0.25}),
    "ridge radius": (["interior", "contour", "ridge"], {"background_radius": 3.0}),
    "ridge with mask": (["interior", "ridge"], {"mask_channels": ["interior"]}),
    "shared stars": (["distance", "rays"], {"star_paint": "mask", "star_overlap": 0.2}),
    "all stars": (["distance", "rays"], {"star_peaks": 0.0, "min_object": 5.0}),
    "short flows": (["foreground", "flow"], {"flow_steps": 9, "sink_hits": 3}),
    "errors of flows": (["foreground", "flow"], {"flow_error": 1.9, "sink_hits": 5}),
    "own channels": (
        ["foreground", "touching", "centre"],
        {
            "seed_channels": ["centre", "touching"],
            "mask_channels": [],
            "flooded_channels": ["foreground"],
        },
    ),
}


@pytest.mark.parametrize(("names", "labelling"), OPTIONS.values(), ids=OPTIONS)
def test_options_in_blocks_are_those_of_the_whole(tmp_path, names, labelling):
    whole, found = both(tmp_path, names, (9, 13), labelling, (1.0, 0.8))
    assert found.max() == whole.max() > 0
    assert (found == whole).all()


@pytest.mark.parametrize("names", [["foreground", "flow"], ["distance", "rays"]], ids="+".join)
def test_voxels_that_are_not_cubes(tmp_path, names):
    whole, found = both(tmp_path, names, (5, 7, 8), {"min_object": 3.0}, (2.0, 1.0, 0.7))
    assert found.max() == whole.max() > 1
    assert (found == whole).all()


def test_nothing_predicted_gives_nothing(tmp_path):
    for names in (["foreground", "contour"], ["foreground", "flow"], ["foreground", "rays"]):
        settings = settings_of(names, 2)
        prediction = {k: v * 0 for k, v in noise(settings, (20, 20)).items()}
        path = store_prediction(tmp_path / f"{names[1]}.zarr", prediction)
        assert in_blocks(path, (8, 9), LabelSettings(), settings, store=Memory()).max() == 0


class KilledError(Exception):
    pass


KILLED = [
    (["interior", "ridge"], {"seed_foreground": "otsu", "min_seed": 3.0}),
    (["foreground", "flow"], {"flow_error": 1.9}),
    (["distance", "rays"], {"star_paint": "mask"}),
    (["foreground", "affinities"], {}),
]


@pytest.mark.parametrize(("names", "labelling"), KILLED, ids=["watershed", "flow", "stars", "a"])
def test_a_run_that_is_killed_again_and_again_goes_on(tmp_path, names, labelling):
    settings = settings_of(names, 2)
    prediction, parameters = noise(settings, SHAPES[2]), LabelSettings.model_validate(labelling)
    path = store_prediction(tmp_path / "prediction.zarr", prediction)
    lives = [0]

    def dying(function, tasks, step):
        assert step
        results = []
        for task in tasks:
            lives[0] -= 1
            if lives[0] < 0:
                raise KilledError
            results.append(function(task))
        return results

    died, found = 0, None
    while found is None:
        lives[0] = 7
        try:
            store = open_store(tmp_path / "blocks", "this")
            found = in_blocks(path, (16, 16), parameters, settings, store=store, run=dying)
        except KilledError:
            died += 1
    assert died > 2
    expected = next(label_prediction(prediction, [parameters], settings=settings))
    assert (found == expected).all()


def test_two_workers_give_the_same(tmp_path):
    settings = settings_of(["foreground", "contour"], 2)
    prediction = noise(settings, SHAPES[2])
    path = store_prediction(tmp_path / "prediction.zarr", prediction)
    store = open_store(tmp_path / "blocks", "this")
    with Pool(Workers(2)) as pool:

        def run(function, tasks, step):
            return pool.run(function, tasks, description=step)

        found = in_blocks(path, (15, 31), LabelSettings(), settings, store=store, run=run)
    expected = next(label_prediction(prediction, [LabelSettings()], settings=settings))
    assert (found == expected).all()


def test_single_voxels_are_not_partitioned_in_blocks(tmp_path):
    settings = settings_of(["affinities"], 2)
    path = store_prediction(tmp_path / "prediction.zarr", noise(settings, (8, 8)))
    parameters = LabelSettings(partition="voxels")
    with pytest.raises(ConfigError, match=r"expected \"fragments\" where a volume is labelled in"):
        in_blocks(path, (4, 4), parameters, settings, store=open_store(tmp_path / "b", "this"))


def test_maps_to_look_at_are_not_written_in_blocks(tmp_path):
    settings = settings_of(["foreground"], 2)
    path = store_prediction(tmp_path / "prediction.zarr", noise(settings, (8, 8)))
    parameters = LabelSettings(check_files="write")
    with pytest.raises(ConfigError, match=r"check_files: expected \"none\" where a volume is lab"):
        in_blocks(path, (4, 4), parameters, settings, store=open_store(tmp_path / "b", "this"))


def test_large_predictions_are_cut_into_blocks():
    heads = [Head("foreground", 1, "sigmoid", "a"), Head("flow", 3, "none", "b")]
    assert block_shape((256, 256, 256), heads) is None
    block = block_shape((100, 2000, 2000), heads)
    assert block == (100, 250, 500) or (104 * np.prod(block) <= 2**31 and min(block) >= 32)

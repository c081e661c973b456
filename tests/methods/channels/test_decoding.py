"""True channels decode to the true instances, for every preset, in images and volumes."""

import itertools
import math

import numpy as np
import pytest

from instaseg.data.config import DataSettings
from instaseg.errors import ConfigError, DataError
from instaseg.io.arrays import has_array, open_array, write_array
from instaseg.io.samples import read_whole
from instaseg.methods.build import MethodSpec
from instaseg.methods.channels.config import ChannelsSettings, LabelSettings
from instaseg.methods.channels.decoding import (
    check_arrays,
    drop_small,
    instances_from_channels,
    label_prediction,
    with_unseeded,
)
from instaseg.methods.channels.instances import Instances
from instaseg.methods.channels.presets import PRESETS
from instaseg.methods.channels.registry import channels_of
from instaseg.methods.channels.targets import target
from instaseg.models.config import ModelSettings
from instaseg.regions.distance import nearest
from instaseg.stages.labelling import LabelTask, label_sample

OFFSETS = ("offset_z", "offset_y", "offset_x")


def cells(shape, centres, radius, spacing=None):
    """Return balls around centres, cut where they meet; every voxel goes to the nearest centre."""
    points = np.zeros(shape, np.int32)
    for number, centre in enumerate(centres, start=1):
        points[tuple(centre)] = number
    return nearest(points, spacing or (1,) * len(shape), most=radius)[0]


TOUCHING = cells(
    (44, 52), [(2, 6), (8, 20), (10, 36), (22, 8), (24, 24), (22, 40), (38, 16), (39, 47)], 8.5
)
"""Eight cells, some touching, three at the border of the image."""
APART = cells((40, 44), [(8, 8), (8, 30), (28, 10), (30, 32)], 7)
"""Four cells that do not touch, with wide gaps between them and to the border."""
TILES = cells((30, 36), [(6, 7), (7, 27), (16, 16), (24, 6), (25, 29)], 100)
"""Five cells that fill the image."""
BALLS = cells((20, 26, 28), [(4, 7, 7), (6, 8, 20), (14, 18, 9), (14, 19, 21)], 7)
"""Four balls, which touch."""
BALLS_APART = cells((24, 38, 40), [(11, 9, 9), (12, 10, 30), (11, 28, 11), (12, 27, 30)], 6)


def expanded(preset, ndim):
    """Yield the names of the channels of all sets of a preset."""
    for combination in itertools.product(*preset.parts):
        if len(set(combination)) == len(combination):
            yield [
                name
                for word in combination
                for name in (OFFSETS[3 - ndim :] if word == "offsets" else [word])
            ]


def settings_of(names, **tables):
    if "distance" in names:
        tables = {"distance": {"learnt": "everywhere"}, **tables}
    return ChannelsSettings.model_validate({"channels": names, **tables})


def true_channels(labels, settings, spacing=None):
    instances = Instances(labels, spacing or (1.0,) * labels.ndim)
    return {
        one.name: np.asarray(target(one, instances, settings), np.float32)
        for one in channels_of(settings, labels.ndim)
    }


def decoded(labels, names, labelling=None, spacing=None, **tables):
    settings = settings_of(names, **tables)
    prediction = true_channels(labels, settings, spacing)
    parameters = [LabelSettings.model_validate(labelling or {})]
    return next(label_prediction(prediction, parameters, settings=settings, spacing=spacing))


def f1(found, truth, least=0.75):
    """Return the F1 score at an intersection over union."""
    counts = [len(np.unique(labels[labels > 0])) for labels in (found, truth)]
    pairs = np.stack([found[(found > 0) & (truth > 0)], truth[(found > 0) & (truth > 0)]])
    matched = 0
    for (a, b), shared in zip(*np.unique(pairs.T, axis=0, return_counts=True), strict=True):
        matched += shared >= least * ((found == a).sum() + (truth == b).sum() - shared)
    return 2 * matched / sum(counts) if sum(counts) else 1.0


def labels_for(names, ndim):
    """Return labels that a set of channels can tell apart."""
    if names == ["contour"]:
        return TILES if ndim == 2 else np.stack([TILES] * 6)
    if names == ["ridge"]:
        return np.pad(APART if ndim == 2 else BALLS_APART, 4)
    if len(names) == 1 and names[0] in ("foreground", "background"):
        return APART if ndim == 2 else BALLS_APART
    return TOUCHING if ndim == 2 else BALLS


ALL_2D = [names for preset in PRESETS for names in expanded(preset, 2)]
SOME_3D = [next(iter(expanded(preset, 3))) for preset in PRESETS]


@pytest.mark.parametrize("names", ALL_2D, ids="+".join)
def test_true_channels_of_an_image_decode_to_the_truth(names):
    truth = labels_for(names, 2)
    found = decoded(truth, names)
    assert f1(found, truth) == 1
    assert found.dtype == np.int32
    assert sorted(np.unique(found)) == list(
        range(found.min(), len(np.unique(truth[truth > 0])) + 1)
    )


@pytest.mark.parametrize("names", SOME_3D, ids="+".join)
def test_true_channels_of_a_volume_decode_to_the_truth(names):
    truth = labels_for(names, 3)
    assert f1(decoded(truth, names), truth) == 1


FLAT = cells((10, 30, 34), [(3, 9, 8), (4, 9, 25), (6, 22, 16)], 10, (2.0, 1.0, 1.0))


@pytest.mark.parametrize(
    "names",
    [
        ["foreground", "contour"],
        ["interior", "contour"],
        ["interior", "contour", "distance"],
        ["foreground", "distance"],
        ["foreground", *OFFSETS],
        ["foreground", "rays"],
        ["foreground", "flow"],
        ["affinities"],
        ["interior", "contour", "ridge"],
    ],
    ids="+".join,
)
def test_voxels_that_are_no_cubes(names):
    assert f1(decoded(FLAT, names, spacing=(2.0, 1.0, 1.0)), FLAT) == 1


def touching_cells(shape, count, spacing, *, apart, radii, seed):
    """Return cells at random places, that share the space between them where they meet."""
    rng = np.random.default_rng(seed)
    seeds, places = np.zeros(shape, np.int32), []
    while len(places) < count:
        place = tuple(int(rng.integers(n)) for n in shape)
        away = [math.dist(*(np.multiply(p, spacing) for p in (place, other))) for other in places]
        if min(away, default=apart) >= apart:
            places.append(place)
            seeds[place] = len(places)
    labels, distance = nearest(seeds, spacing)
    reach = np.r_[0, rng.uniform(*radii, count)]
    return np.where(distance <= reach[labels], labels, 0)


DEEP = touching_cells((14, 60, 60), 25, (4.0, 1.0, 1.0), apart=15, radii=(9, 14), seed=3)


@pytest.mark.parametrize(
    ("names", "least"),
    [
        (["foreground", "contour"], 1),
        (["foreground", "centre"], 0.85),  # nothing tells where two that touch meet
        (["interior", "ridge"], 1),
        (["interior", "contour", "distance"], 1),
        (["interior", "contour", "ridge"], 1),
        (["foreground", "distance"], 1),
        (["distance"], 1),
        (["distance", "flow"], 1),
        (["foreground", "flow"], 1),
        # steps of a voxel along z are as wide as a cell: some are cut by their neighbours
        (["affinities"], 0.9),
        (["foreground", *OFFSETS], 0.9),
    ],
    ids=str,
)
def test_touching_cells_of_voxels_four_times_as_deep(names, least):
    found = decoded(DEEP, names, spacing=(4.0, 1.0, 1.0))
    assert f1(found, DEEP) >= least


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (4.0, 1.0, 1.0)], ids=str)
def test_star_shapes_that_grow_in_the_mask(spacing):
    cubes = touching_cells((30, 30, 30), 12, (1.0, 1.0, 1.0), apart=10, radii=(6, 10), seed=1)
    truth = DEEP if spacing[0] > 1 else cubes
    found = decoded(truth, ["distance", "rays"], {"star_paint": "mask"}, spacing)
    assert f1(found, truth) == 1


@pytest.mark.parametrize(
    "names", [["interior", "contour", "foreground"], ["interior", "foreground"]]
)
def test_small_instances_without_an_interior_are_kept(names):
    truth = np.zeros((20, 30), np.int32)
    truth[3, 3], truth[3:5, 10:12], truth[10:14, 20:24] = 1, 2, 3
    assert f1(decoded(truth, names), truth) == 1


@pytest.mark.parametrize("mode", ["thick", "inner", "outer", "dense_legacy"])
@pytest.mark.parametrize("names", [["interior", "contour"], ["interior", "centre"]], ids="+".join)
def test_what_contours_take_from_instances_is_given_back(names, mode):
    assert f1(decoded(TOUCHING, names, contour={"mode": mode}), TOUCHING) == 1


def test_thick_contours_in_physical_units_are_given_back():
    contour = {"mode": "thick", "thickness": 2.0}
    assert f1(decoded(TOUCHING, ["interior", "contour"], contour=contour), TOUCHING) == 1


def test_inner_contours_give_exact_instances():
    found = decoded(TOUCHING, ["interior", "contour"], contour={"mode": "inner"})
    np.testing.assert_array_equal(found > 0, TOUCHING > 0)


@pytest.mark.parametrize(
    "distance",
    [
        {"polarity": "low_inside"},
        {"scale": "physical"},
        {"scale": "physical", "polarity": "low_inside"},
        {"border_of": "interior", "polarity": "low_inside"},
        {"border_of": "interior", "scale": "physical"},
    ],
)
@pytest.mark.parametrize("area", ["interior", "foreground"])
def test_distances_of_every_generation(distance, area):
    assert f1(decoded(TOUCHING, [area, "contour", "distance"], distance=distance), TOUCHING) == 1


@pytest.mark.parametrize(
    ("names", "tables"),
    [
        (["signed_distance"], {"signed_distance": {"scale": "tanh"}}),
        (["foreground", "offset_y", "offset_x"], {"offset": {"scale": "physical"}}),
        (["interior", "centre"], {"centre": {"kind": "gauss"}}),
        (["interior", "centre"], {"centre": {"kind": "skeleton", "radius": 1.0}}),
        (["foreground", "centre_distance"], {"centre_distance": {"scale": "physical"}}),
        (["distance"], {"distance": {"scale": "physical", "learnt": "everywhere"}}),
        (["distance"], {"distance": {"border_of": "interior", "learnt": "everywhere"}}),
        (["affinities"], {"affinities": {"offsets": [[-1, 0], [0, -1], [-5, 0], [0, 5], [3, -3]]}}),
    ],
)
def test_other_scales(names, tables):
    assert f1(decoded(TOUCHING, names, **tables), TOUCHING) == 1


@pytest.mark.parametrize("mode", ["thick", "inner"])
@pytest.mark.parametrize(
    "names", [["interior", "contour", "ridge"], ["interior", "ridge"]], ids="+".join
)
def test_background_seeds_are_removed(names, mode):
    found = decoded(TOUCHING, names, contour={"mode": mode})
    assert f1(found, TOUCHING) == 1
    assert (found == 0).mean() > 0.8 * (TOUCHING == 0).mean()


def test_low_regions_of_the_ridge_above_a_size_are_background():
    truth = np.pad(APART, 4)
    large = {"background_seeds": "large", "max_object": 400.0}
    assert f1(decoded(truth, ["ridge"], large, ridge={"cap": 5.0}), truth) == 1
    found = decoded(truth, ["ridge"], {"background_seeds": "large"}, ridge={"cap": 5.0})
    assert (found.min(), found.max()) == (1, 5)


def words(preset):
    return preset.name


# directions on a sphere leave a single slice before they reach the border of an instance
FLAT_PRESETS = [preset for preset in PRESETS if preset.decoder != "stars"]


@pytest.mark.parametrize("preset", FLAT_PRESETS, ids=words)
def test_a_volume_of_one_slice_is_an_image(preset):
    flat, deep = next(iter(expanded(preset, 2))), next(iter(expanded(preset, 3)))
    truth = labels_for(flat, 2)
    image, volume = decoded(truth, flat), decoded(truth[None], deep)
    np.testing.assert_array_equal(volume[0], image)


@pytest.mark.parametrize("preset", PRESETS, ids=words)
def test_the_order_of_channels_is_of_no_account(preset):
    names = next(iter(expanded(preset, 2)))
    truth = labels_for(names, 2)
    np.testing.assert_array_equal(decoded(truth, names[::-1]), decoded(truth, names))


@pytest.mark.parametrize("preset", PRESETS, ids=words)
def test_an_image_without_instances(preset):
    names = next(iter(expanded(preset, 2)))
    found = decoded(np.zeros((16, 17), np.int32), names)
    if names == ["contour"]:  # without a contour, all of the image is one instance
        assert (found == 1).all()
    else:
        assert not found.any()


@pytest.mark.parametrize("preset", PRESETS, ids=words)
def test_one_instance_that_fills_the_image(preset):
    names = next(iter(expanded(preset, 2)))
    found = decoded(np.ones((16, 17), np.int32), names)
    assert (found == 1).mean() >= 0.75


@pytest.mark.parametrize("preset", PRESETS, ids=words)
@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_predictions_as_they_are_stored(preset, dtype):
    names = next(iter(expanded(preset, 2)))
    truth = labels_for(names, 2)
    settings = settings_of(names)
    stored = {}
    for one in channels_of(settings, 2):
        values = true_channels(truth, settings)[one.name]
        as_bytes = dtype == "uint8" and one.activation == "sigmoid"
        stored[one.name] = np.uint8(np.rint(255 * values)) if as_bytes else np.float16(values)
    kept = {name: values.copy() for name, values in stored.items()}
    found = next(label_prediction(stored, [LabelSettings()], settings=settings))
    assert f1(found, truth) == 1
    for name, values in stored.items():
        np.testing.assert_array_equal(values, kept[name])


SWEEPS = {
    "watershed": (["foreground", "contour"], [{}, {"seed_contour": 0.2}, {"min_object": 120.0}]),
    "stars": (["foreground", "rays"], [{}, {"star_overlap": 0.2}, {"star_paint": "mask"}, {}]),
    "flow": (["foreground", "flow"], [{}, {"sink_hits": 60}, {"flow_steps": 3}, {}]),
    "affinities": (["affinities"], [{}, {"partition": "voxels"}, {"seed_affinity": 0.9}]),
}


@pytest.mark.parametrize("decoder", SWEEPS)
def test_many_parameter_sets_are_as_each_alone(decoder):
    names, sweep = SWEEPS[decoder]
    settings = settings_of(names)
    rng = np.random.default_rng(0)
    prediction = {
        name: values + rng.normal(0, 0.1, values.shape).astype(np.float32)
        for name, values in true_channels(TOUCHING, settings).items()
    }
    parameters = [LabelSettings.model_validate(one) for one in sweep]
    together = list(label_prediction(prediction, parameters, settings=settings))
    assert len(together) == len(sweep)
    for one, found in zip(parameters, together, strict=True):
        alone = next(label_prediction(prediction, [one], settings=settings))
        np.testing.assert_array_equal(found, alone)


def row(*values):
    return np.array([values], np.float32)


def test_seeds_need_low_contours_and_grow_over_them():
    foreground = row(0.9, 0.9, 0.9, 0.9, 0.9, 0.1)
    contour = row(0.1, 0.1, 0.8, 0.1, 0.1, 0.0)
    found = instances_from_channels(np.stack([foreground, contour]), ["foreground", "contour"])
    assert found.tolist() == [[1, 1, 1, 2, 2, 0]]


def test_small_seeds_and_small_instances_are_dropped():
    foreground = row(1, 1, 1, 1, 1, 1, 0, 1, 0)
    contour = row(0, 0, 0, 1, 0, 1, 0, 0, 0)
    both = np.stack([foreground, contour])
    names = ["foreground", "contour"]

    def found(**labelling):
        labelling = {"surface_smoothing": 0.0, **labelling}
        return instances_from_channels(both, names, labelling=labelling).tolist()

    assert found() == [[1, 1, 1, 1, 2, 2, 0, 3, 0]]
    assert found(min_seed=2.0) == [[1, 1, 1, 1, 1, 1, 0, 2, 0]]
    assert found(min_seed=2.0, unseeded="drop") == [[1, 1, 1, 1, 1, 1, 0, 0, 0]]
    assert found(min_object=2.0) == [[1, 1, 1, 1, 2, 2, 0, 0, 0]]


def test_sizes_are_physical():
    labels = decoded(APART, ["foreground"], {"min_object": 100.0}, spacing=(0.5, 0.5))
    assert not labels.any()
    assert decoded(APART, ["foreground"], {"min_object": 30.0}, spacing=(0.5, 0.5)).max() == 4


def test_parts_of_the_mask_that_are_all_contour_are_instances_if_they_are_foreground():
    foreground = row(0.9, 0.9, 0, 0.6, 0)
    contour = row(0.9, 0.9, 0, 0.9, 0)
    both = np.stack([foreground, contour])

    def found(**labelling):
        return instances_from_channels(both, ["foreground", "contour"], labelling=labelling)

    assert found().tolist() == [[1, 1, 0, 0, 0]]
    assert found(seed_foreground=0.5).tolist() == [[1, 1, 0, 2, 0]]
    assert not found(unseeded="drop").any()


def test_seed_morphology_separates_what_a_bridge_joins():
    foreground = np.zeros((9, 21), np.float32)
    foreground[1:8, 1:8] = foreground[1:8, 13:20] = foreground[4, 8:13] = 1
    names = ["foreground"]
    assert instances_from_channels(foreground[None], names).max() == 1
    opened = {"seed_steps": ["erode", "erode"], "seed_radii": [1.0, 1.0]}
    assert instances_from_channels(foreground[None], names, labelling=opened).max() == 2
    eroded = {"mask_steps": ["erode"], "mask_radii": [1.0]}
    assert instances_from_channels(foreground[None], names, labelling=eroded).max() == 2


def test_peaks_split_what_thresholds_leave_connected():
    distance = row(0, 0.5, 0.9, 0.7, 0.6, 0.8, 0.5, 0)
    both = np.stack([(distance > 0).astype(np.float32), distance])
    names = ["foreground", "distance"]

    def found(**labelling):
        labelling = {"surface_smoothing": 0.0, **labelling}
        return instances_from_channels(both, names, labelling=labelling).tolist()

    assert found() == [[0, 1, 1, 1, 1, 1, 1, 0]]
    assert found(seed_peaks=1.0) == [[0, 1, 1, 1, 2, 2, 2, 0]]


@pytest.mark.parametrize("threshold", ["otsu", "otsu_half"])
def test_thresholds_from_the_values_of_an_image(threshold):
    labelling = dict.fromkeys(("seed_foreground", "seed_contour", "mask_foreground"), threshold)
    settings = settings_of(["foreground", "contour"])
    faint = {name: values / 4 for name, values in true_channels(TOUCHING, settings).items()}
    faint["contour"] *= 4  # half of the way to the highest value there can be
    parameters = [LabelSettings.model_validate(labelling)]
    assert f1(next(label_prediction(faint, parameters, settings=settings)), TOUCHING) == 1
    assert not next(label_prediction(faint, [LabelSettings()], settings=settings)).any()


def test_chosen_channels_in_place_of_a_preset():
    names = ["foreground", "contour", "neighbour_distance", "rays"]
    settings = settings_of(names)
    with pytest.raises(ConfigError, match="must be channels that can be decoded"):
        decoded(TOUCHING, names)
    chosen = {
        "seed_channels": ["foreground", "contour"],
        "mask_channels": ["foreground"],
        "flooded_channels": [],
    }
    found = next(
        label_prediction(
            true_channels(TOUCHING, settings),
            [LabelSettings.model_validate(chosen)],
            settings=settings,
        )
    )
    assert f1(found, TOUCHING) == 1


def test_star_shapes_may_share_the_mask():
    found = decoded(TOUCHING, ["foreground", "rays"], {"star_paint": "mask"})
    np.testing.assert_array_equal(found > 0, TOUCHING > 0)
    assert f1(found, TOUCHING) == 1


def test_instances_with_another_flow_are_dropped():
    settings = settings_of(["foreground", "flow"])
    prediction = true_channels(APART, settings)
    prediction["flow"][:, APART == 2] *= 0.3
    strict = LabelSettings(flow_error=0.2)
    loose = LabelSettings(flow_error=2.0)
    kept, all_ = label_prediction(prediction, [strict, loose], settings=settings)
    assert (kept.max(), all_.max()) == (3, 4)
    assert not kept[APART == 2].any()


def test_check_arrays_show_seeds_mask_and_surface():
    settings = settings_of(["foreground", "contour"])
    prediction = true_channels(APART, settings)
    found = check_arrays(prediction, LabelSettings(), settings=settings)
    assert {name: values.dtype for name, values in found.items()} == {
        "seed_map": np.int32,
        "foreground": np.uint8,
        "surface": np.float32,
    }
    assert all(values.shape == APART.shape for values in found.values())
    np.testing.assert_array_equal(found["foreground"], APART > 0)
    assert sorted(np.unique(found["seed_map"])) == [0, 1, 2, 3, 4]
    assert (found["seed_map"] > 0).sum() < (APART > 0).sum()


@pytest.mark.parametrize("names", [["foreground", "flow"], ["foreground", "rays"], ["affinities"]])
def test_check_arrays_of_other_decoders(names):
    settings = settings_of(names)
    found = check_arrays(true_channels(APART, settings), LabelSettings(), settings=settings)
    assert found["seed_map"].max() >= 4
    assert found["surface"].dtype == np.float32


@pytest.mark.parametrize("check_files", ["none", "write"])
def test_the_stage_writes_check_arrays_on_request(tmp_path, check_files):
    settings = settings_of(["foreground", "contour"])
    for name, values in true_channels(APART, settings).items():
        write_array(tmp_path / "in.zarr", f"volumes/pred_{name}", values)
    model = ModelSettings(train_input_shape=(92, 92), test_input_shape=(92, 92))
    task = LabelTask(
        sample="a",
        prediction=tmp_path / "in.zarr",
        output=tmp_path / "out.zarr",
        method=MethodSpec(settings, model, DataSettings()),
        parameters=LabelSettings(check_files=check_files),
        fingerprint="",
    )
    label_sample(task)
    assert f1(read_whole(open_array(task.output, "vote_instances")), APART) == 1
    written = [has_array(task.output, f"check/{n}") for n in ("seed_map", "foreground", "surface")]
    assert written == [check_files == "write"] * 3


def test_a_channel_that_is_missing_or_of_another_shape():
    settings = settings_of(["foreground", "contour"])
    prediction = true_channels(APART, settings)
    only = {"contour": prediction["contour"]}
    with pytest.raises(DataError, match="expected the channels foreground, contour, found contour"):
        next(label_prediction(only, [LabelSettings()], settings=settings))
    prediction["contour"] = prediction["contour"][:, 1:]
    message = r"prediction of contour: expected shape \[1, 40, 44\], found \[1, 39, 44\]"
    with pytest.raises(DataError, match=message):
        next(label_prediction(prediction, [LabelSettings()], settings=settings))


def test_channels_of_another_number_than_their_names():
    with pytest.raises(DataError, match="expected 2 components for foreground, contour, found 3"):
        instances_from_channels(np.zeros((3, 4, 4), np.float32), ["foreground", "contour"])
    with pytest.raises(DataError, match=r"expected axes \(channels, y, x\)"):
        instances_from_channels(np.zeros((4, 4), np.float32), ["foreground"])


def test_drop_small_keeps_the_others_as_they_are():
    labels = np.array([[1, 1, 2, 0, 3, 3]], np.int32)
    assert drop_small(labels, 2).tolist() == [[1, 1, 0, 0, 3, 3]]


def test_with_unseeded_numbers_parts_after_the_seeds():
    seeds = np.array([[1, 0, 0, 0, 0]], np.int32)
    mask = np.array([[1, 1, 0, 1, 1]], bool)
    sure = np.array([[1, 1, 1, 0, 1]], bool)
    assert with_unseeded(seeds, mask, None).tolist() == [[1, 0, 0, 3, 3]]
    assert with_unseeded(seeds, mask, sure).tolist() == [[1, 0, 0, 0, 3]]

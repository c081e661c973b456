"""Which sets are decoded, with which thresholds, and what is refused before any work."""

import itertools

import pytest

from instaseg.config.load import load_config
from instaseg.errors import ConfigError
from instaseg.methods.channels.config import ChannelsSettings, LabelSettings
from instaseg.methods.channels.presets import (
    PRESETS,
    Term,
    decodable,
    find_preset,
    make_plan,
    words,
)


def plan(names, labelling=None, spacing=(1.0, 1.0), **tables):
    settings = ChannelsSettings.model_validate({"channels": names, **tables})
    return make_plan(settings, LabelSettings.model_validate(labelling or {}), spacing)


def terms(found):
    return [(one.channel, one.threshold, one.side) for one in found]


def test_no_two_presets_have_the_same_set():
    sets = [
        frozenset(combination)
        for preset in PRESETS
        for combination in itertools.product(*preset.parts)
        if len(set(combination)) == len(combination)
    ]
    assert len(sets) == len(set(sets))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_set_is_found_in_any_order(preset):
    names = next(c for c in itertools.product(*preset.parts) if len(set(c)) == len(c))
    for order in itertools.permutations(names):
        assert find_preset(order) == (preset, names)


def test_offsets_count_as_one_channel():
    assert words(["offset_x", "offset_y", "foreground"]) == {"offsets", "foreground"}


def test_bc():
    found = plan(["contour", "interior"])
    assert terms(found.seeds) == [("interior", 0.8, "above"), ("contour", 0.2, "below")]
    assert terms(found.mask) == [("interior", 0.5, "above")]
    assert found.flooded == (("contour", 1), ("interior", -1))
    assert (found.growth_voxels, found.growth, found.also) == (1, 0.0, ())


def test_contours_inside_instances_are_part_of_the_mask():
    found = plan(["interior", "contour"], contour={"mode": "inner"})
    assert terms(found.also) == [("contour", 0.5, "above")]
    assert (found.growth_voxels, found.growth) == (0, 0.0)


def test_thick_contours_are_as_wide_as_the_settings_say():
    found = plan(["interior", "contour"], contour={"thickness": 2.5})
    assert (found.growth_voxels, found.growth) == (0, 2.5)


def test_distances_lose_voxels_by_the_shortest_side():
    found = plan(["distance"], spacing=(4.0, 1.0, 0.5), distance={"learnt": "everywhere"})
    assert (found.growth_voxels, found.growth) == (0, 0.5)


def test_bcm_takes_the_mask_from_the_foreground():
    found = plan(["interior", "contour", "foreground"])
    assert terms(found.seeds) == [("interior", 0.8, "above"), ("contour", 0.2, "below")]
    assert terms(found.mask) == [("foreground", 0.5, "above")]


@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        ({}, ("distance", 0.4, "above")),
        ({"polarity": "low_inside"}, ("distance", 0.6, "below")),
        ({"scale": "physical"}, ("distance", 3.0, "above")),
        ({"scale": "physical", "polarity": "low_inside"}, ("distance", 6.0, "below")),
    ],
)
def test_distances_by_polarity_and_scale(distance, expected):
    found = plan(["interior", "contour", "distance"], spacing=(2.0, 3.0), distance=distance)
    assert terms(found.seeds)[2] == expected
    assert found.flooded == (("distance", -1 if expected[2] == "above" else 1),)


def test_the_mask_of_bcd_may_need_a_distance():
    found = plan(["interior", "contour", "distance"], {"mask_distance": 0.1})
    assert terms(found.mask) == [("interior", 0.5, "above"), ("distance", 0.1, "above")]


def test_background_is_the_other_side_of_foreground():
    found = plan(["background", "contour"], {"seed_foreground": 0.7})
    assert terms(found.seeds)[0] == ("background", pytest.approx(0.3), "below")
    assert found.flooded == (("contour", 1), ("background", 1))
    otsu = plan(["background", "contour"], {"seed_foreground": "otsu"})
    assert terms(otsu.seeds)[0] == ("background", "otsu", "below")


@pytest.mark.parametrize(
    ("names", "background"),
    [
        (["interior", "contour", "ridge"], "far"),
        (["interior", "ridge"], "unseeded"),
        (["ridge"], "outside"),
        (["interior", "contour"], "none"),
    ],
)
def test_only_the_ridge_needs_seeds_of_the_background(names, background):
    found = plan(names)
    assert found.background == background
    assert (found.mask == ()) == (background != "none")


def test_the_seeds_of_the_background_have_the_threshold_of_seeds_or_their_own():
    assert plan(["interior", "ridge"]).background_seed == Term("ridge", 0.6, "below")
    own = {"seed_distance": 0.3, "background_distance": 0.8}
    assert plan(["interior", "ridge"], own).background_seed == Term("ridge", 0.8, "below")


@pytest.mark.parametrize("size", [0.5, 8.0])
def test_seeds_of_a_signed_distance_follow_the_size_of_a_voxel(size):
    own = {"signed_distance": {"scale": "tanh"}}
    found = plan(["signed_distance"], spacing=(size, 2 * size), **own)
    assert terms(found.seeds) == terms(plan(["signed_distance"], spacing=(1.0, 2.0), **own).seeds)


def test_contours_alone_have_no_mask_unless_a_threshold_is_given():
    assert plan(["contour"]).mask == ()
    assert terms(plan(["contour"], {"mask_contour": 0.9}).mask) == [("contour", 0.9, "below")]


def test_channels_that_rise_to_sharp_borders_are_not_smoothed():
    assert plan(["foreground", "contour"], spacing=(3.0, 2.0)).smoothing == 2.0
    assert plan(["interior", "ridge"]).smoothing == 0.0
    assert plan(["interior", "ridge"], {"surface_smoothing": 1.5}).smoothing == 1.5


def test_what_is_learnt_in_the_foreground_only_is_smoothed_there():
    assert plan(["foreground", "distance"]).smooth == "mask"
    assert plan(["foreground", "distance"], distance={"learnt": "everywhere"}).smooth != "mask"


def test_named_channels_replace_those_of_the_preset():
    chosen = {"seed_channels": ["centre"], "flooded_channels": ["contour"]}
    found = plan(["foreground", "contour", "centre"], chosen)
    assert terms(found.seeds) == [("centre", 0.5, "above")]
    assert terms(found.mask) == [("foreground", 0.5, "above")]
    assert found.flooded == (("contour", 1),)


WRONG = [
    (["rays", "contour"], {}, {}, r"\[method\] channels: must be channels that can be decoded"),
    (
        ["foreground"],
        {"seed_contour": 0.2},
        {},
        r"seed_contour: must be left out: with the channel",
    ),
    (["foreground", "contour"], {"seed_distance": 0.2}, {}, "thresholds that are used: mask_fore"),
    (["foreground", "contour"], {"mask_distance": 0.2}, {}, "mask_distance: must be left out"),
    (["interior", "contour"], {"background_distance": 0.2}, {}, "background_distance: must be"),
    (["foreground", "contour"], {"seed_channels": ["centre"]}, {}, "seed_channels: must be chan"),
    (
        ["foreground", "contour"],
        {"seed_contour": 1.5},
        {},
        "seed_contour: must be a value of contour, from 0 to 1; got 1.5",
    ),
    (
        ["foreground", "contour"],
        {"mask_foreground": -0.1},
        {},
        "mask_foreground: must be a value of foreground, from 0 to 1; got -0.1",
    ),
    (["foreground", "offset_x"], {}, {}, r"an offset along every axis; .* add offset_y"),
    (["distance"], {}, {}, "learnt in the foreground only; add foreground, or"),
    (
        ["distance"],
        {},
        {"distance": {"polarity": "low_inside", "learnt": "everywhere"}},
        "which is 0 at centres and in the background; add foreground",
    ),
    (["foreground", "flow"], {"mask_channels": ["flow"]}, {}, "one value at each voxel; got flow"),
    (["foreground", "rays"], {"flooded_channels": ["rays"]}, {}, "flooded_channels: .* got rays;"),
    (
        ["foreground", "contour"],
        {"seed_channels": []},
        {},
        r"seed_channels: must be one .* got \[\]",
    ),
    (
        ["foreground", "centre"],
        {"mask_channels": ["centre"]},
        {},
        "where instances end; got centre",
    ),
    (["foreground", "flow"], {"mask_channels": []}, {}, r"decoded by flow; got \[\]; name one"),
    (["affinities"], {"mask_channels": []}, {}, r"decoded by affinities; got \[\]; name one"),
    (
        ["foreground", "flow"],
        {"flooded_channels": ["foreground"]},
        {},
        "no seeds to flood from; got foreground; remove it, or name seed_channels",
    ),
    (
        ["foreground", "contour"],
        {"sink_hits": 5},
        {},
        r"\[vote_instances\] sink_hits: has no effect with the channels contour, foreground, which"
        " are decoded by watershed; got 5; remove it",
    ),
    (["foreground", "flow"], {"min_seed": 5}, {}, "min_seed: .* decoded by flow; got 5.0; remove"),
    (["foreground", "flow"], {"partition": "voxels"}, {}, "partition: has no effect"),
    (["affinities"], {"star_peaks": 1.0}, {}, "star_peaks: has no effect"),
    (["distance", "rays"], {"flow_steps": 9}, {}, "flow_steps: .* decoded by stars; got 9"),
    (["interior", "ridge"], {"max_object": 9}, {}, "max_object: has no effect"),
    (["ridge"], {"mask_steps": ["open"], "mask_radii": [1]}, {}, "mask_steps: has no effect"),
    (
        ["foreground", "contour"],
        {},
        {"rays": {"number": 8}},
        r"\[method\] rays.number: has no effect with the channels foreground, contour; got 8;"
        " remove it, or add rays to method.channels",
    ),
    (["foreground"], {}, {"offset": {"scale": "physical"}}, "add offset_z or offset_y or offset_x"),
    (["foreground"], {}, {"contour": {"mode": "inner"}}, "add contour or interior or ridge to"),
    (["foreground"], {}, {"centre": {"radius": 2.0}}, "centre.radius: has no effect"),
]


@pytest.mark.parametrize(("names", "labelling", "tables", "message"), WRONG)
def test_what_does_not_go_together_is_refused(names, labelling, tables, message):
    with pytest.raises(ConfigError, match=message):
        plan(names, labelling, **tables)


def test_what_is_written_as_it_is_left_out_is_not_refused():
    left_out = LabelSettings().model_dump()
    tables = ChannelsSettings().model_dump(exclude={"channels"})
    assert plan(["foreground", "contour"], left_out, **tables) == plan(["foreground", "contour"])
    # as in the files of experiments from before lengths followed the size of a voxel
    lengths = {"centre": {"radius": 3.0}, "ridge": {"cap": 20.0}}
    assert plan(["foreground", "contour"], **lengths) == plan(["foreground", "contour"])


def test_a_table_may_be_for_several_channels():
    mode = {"mode": "inner"}
    assert plan(["interior"], contour=mode).also == ()
    inner = plan(["foreground", "distance"], contour=mode, distance={"border_of": "interior"})
    assert inner.decoder == "watershed"
    with pytest.raises(ConfigError, match=r"contour\.mode: has no effect"):
        plan(["foreground", "distance"], contour=mode)


def test_a_flow_may_be_flooded_from_named_seeds():
    chosen = {"seed_channels": ["foreground"], "flooded_channels": ["foreground"]}
    assert plan(["foreground", "flow"], chosen).decoder == "watershed"


def test_the_message_names_the_sets_that_are_decoded():
    text = decodable()
    assert "AREA + EDGE, " in text
    assert "AREA is foreground|interior|background" in text
    with pytest.raises(ConfigError, match="name seed_channels, mask_channels and flooded_chan"):
        plan(["rays", "contour"])


CONFIG = """
[method]
name = "channels"
channels = {channels}
[model]
train_input_shape = [92, 92]
test_input_shape = [92, 92]
[vote_instances]
{labelling}
"""


@pytest.mark.parametrize(
    ("channels", "labelling", "message"),
    [
        ('["rays", "contour"]', "", r"\[method\] channels: must be channels that can be decoded"),
        ('["foreground"]', "seed_contour = 0.3", r"\[vote_instances\] seed_contour: must be left"),
        ('["foreground"]', 'seed_foreground = "mean"', 'must be a number or one of "otsu"'),
        ('["foreground"]', "seed_steps = ['erode']", "must have one radius for each of the 1 seed"),
        ('["foreground"]', "star_overlap = 0.5", r"\[vote_instances\] star_overlap: has no effect"),
        (
            '["foreground"]',
            "[method.rays]\nnumber = 8",
            r"toml \[method.rays\] number: has no effect",
        ),
    ],
)
def test_a_configuration_is_refused_before_any_work(tmp_path, channels, labelling, message):
    file = tmp_path / "default.toml"
    file.write_text(CONFIG.format(channels=channels, labelling=labelling))
    with pytest.raises(ConfigError, match=message):
        load_config([file])


def test_a_configuration_that_is_decoded(tmp_path):
    file = tmp_path / "default.toml"
    labelling = 'seed_foreground = "otsu"\nseed_contour = 0.3'
    file.write_text(CONFIG.format(channels='["contour", "foreground"]', labelling=labelling))
    assert load_config([file]).vote_instances.seed_contour == 0.3

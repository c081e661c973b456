import pytest
from pydantic import ValidationError

from instaseg.config.load import load_config
from instaseg.errors import ConfigError
from instaseg.postprocess.config import (
    MedianFilter,
    Operation,
    PostprocessingSettings,
    Rule,
    rule,
)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"remove_small_comps": -1}, "greater than or equal to 0"),
        ({"fill_holes": True}, "'none' or 'per_instance'"),
        ({"components": "biggest"}, "'all' or 'largest'"),
        ({"remove_small": 3}, "Extra inputs are not permitted"),
        ({"median": ["z 4"]}, 'and an odd size in voxels; got "z 4"'),
        ({"median": ["x 3"]}, r'axes \(xy, yz, xz, z, xyz\) .*; got "x 3"'),
        ({"median": ["z"]}, 'filters such as "z 5".*; got "z"'),
        ({"refine": ["erodde 3"]}, 'got "erodde 3"; did you mean "erode"'),
        ({"refine": ["dilate"]}, '"dilate" must be followed by a radius above 0.*; got "dilate"'),
        ({"refine": ["erode -1"]}, "a radius above 0"),
        ({"refine": ["remove_small 2.5"]}, "must be followed by a number of voxels above 0"),
        ({"refine": ["fill_holes 3"]}, '"fill_holes" must be followed by nothing'),
        ({"refine": [""]}, 'must be operations .*; got ""'),
        ({"measure": ["circularty"]}, 'unknown property "circularty"; did you mean "circularity"'),
        ({"measure": ["intensity_mean"]}, '"intensity_mean" needs the image'),
        ({"remove_where": [["area ~ 5"]]}, 'rules such as "area < 500".*; got "area ~ 5"'),
        ({"remove_where": [["area < many"]]}, "and a number"),
        ({"remove_where": [[]]}, "got an empty list"),
        ({"remove_where": [["volumen < 5"]]}, 'did you mean "volume"'),
        ({"voronoi": {"most": 0}}, "greater than 0"),
        ({"voronoi": {"most": 3}}, "head must name the head"),
    ],
)
def test_mistakes_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        PostprocessingSettings(**values)


def test_texts_mean_filters_operations_and_rules():
    settings = PostprocessingSettings(
        median=["z 5", "zy  3", "yx 3"],
        refine=["erode 1.5", "fill_holes", "erode 2"],
        measure=["surface", "volume"],
        remove_where=[["volume lt 500"], ["voxels<=9", "sphericity ge 1e-1"]],
    )
    assert settings.median == ("z 5", "zy 3", "yx 3")
    assert settings.medians == (
        MedianFilter("z", 5),
        MedianFilter("yz", 3),
        MedianFilter("xy", 3),
    )
    # each keeps its own value
    assert settings.operations == (
        Operation("erode", 1.5),
        Operation("fill_holes", 0.0),
        Operation("erode", 2.0),
    )
    assert settings.rules == (
        (Rule("volume", "<", 500.0, "volume lt 500"),),
        (
            Rule("voxels", "<=", 9.0, "voxels<=9"),
            Rule("sphericity", ">=", 0.1, "sphericity ge 1e-1"),
        ),
    )
    assert settings.measured == ("surface", "volume", "voxels", "sphericity")
    assert list(settings.problems(3)) == []
    assert hash(settings) == hash(settings.model_copy())


@pytest.mark.parametrize(
    ("sign", "below", "same", "above"),
    [
        ("<", True, False, False),
        ("lt", True, False, False),
        ("<=", True, True, False),
        ("le", True, True, False),
        (">", False, False, True),
        ("gt", False, False, True),
        (">=", False, True, True),
        ("ge", False, True, True),
    ],
)
def test_every_sign(sign, below, same, above):
    one = rule(f"area {sign} 5")
    assert (one.holds(4.9), one.holds(5.0), one.holds(5.1)) == (below, same, above)


def test_what_does_not_suit_the_number_of_axes_is_named():
    settings = PostprocessingSettings(
        median=["xy 3", "z 5"], measure=["sphericity"], remove_where=[["volume < 3"]]
    )
    assert list(settings.problems(2)) == [
        'median: must be "xy SIZE" for images of 2 axes; got "z 5"',
        'measure: "sphericity" is not measured in images of 2 axes; did you mean "circularity"?',
        'remove_where: "volume" is not measured in images of 2 axes; did you mean "area"?',
    ]
    settings = PostprocessingSettings(measure=["area", "eccentricity"])
    assert list(settings.problems(3)) == [
        'measure: "area" is not measured in images of 3 axes; did you mean "volume"?',
        'measure: "eccentricity" is not measured in images of 3 axes',
    ]


BASE = ["method.patch_shape=[5, 5]", "data.train_data=.", "model.train_input_shape=[100, 100]"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("refine=['erode']", r"\[postprocessing\] refine: \"erode\" must be followed by a radius"),
        ("remove_where=[['area <']]", r"\[postprocessing\] remove_where: must be rules such as"),
        (
            "WATERSHED_CIRCULARITY=0.7",
            r"is gone; use remove_where = \[\[\"circularity <= VALUE\"\]\]",
        ),
        ("YZ_FILTERING=true", "is gone; use median"),
        ("VORONOI_TH=0.3", r"is gone; use \[postprocessing.voronoi\]"),
    ],
)
def test_the_configuration_names_place_and_remedy(text, message):
    with pytest.raises(ConfigError, match=message):
        load_config([], [*BASE, f"postprocessing.{text}"])


def test_texts_may_come_from_the_command_line_and_a_sweep():
    config = load_config(
        [],
        [
            *BASE,
            "postprocessing.refine=['dilate 1']",
            "postprocessing.voronoi.head=fgbg",
            "validation.params_product=['postprocessing.refine', 'postprocessing.voronoi.most']",
            "validation.postprocessing.refine=[[], ['erode 1', 'dilate 1']]",
            "validation.postprocessing.voronoi.most=[2.0, 5]",
        ],
    )
    assert config.postprocessing.refine == ("dilate 1",)
    assert config.postprocessing.voronoi.head == "fgbg"
    assert config.validation.values["postprocessing.refine"] == [[], ["erode 1", "dilate 1"]]
    with pytest.raises(ConfigError, match="every value must be operations"):
        load_config(
            [],
            [
                *BASE,
                "validation.params_product=['postprocessing.refine']",
                "validation.postprocessing.refine=[['erodde 1']]",
            ],
        )

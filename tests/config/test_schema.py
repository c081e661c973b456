"""The real tables together: what they must agree on, and what every table must be like."""

from pathlib import Path
from typing import get_args

import pytest

from instaseg.config.kinds import holds_path
from instaseg.config.load import config_to_toml, load_config
from instaseg.config.schema import Config, build_schema, sweepable, walk_tables
from instaseg.errors import ConfigError
from instaseg.methods import METHODS

SHAPE = "method.patch_shape=[25, 25]"

SETUPS = sorted((Path(__file__).parents[2] / "experiments").glob("*/setups/*/*.toml"))

TABLES = [
    pytest.param(path, cls, id=".".join(path))
    for method in METHODS
    for path, cls in walk_tables(build_schema(method))
]


def test_schemas_are_made_once_and_are_configs():
    assert build_schema("patches") is build_schema("patches")
    assert issubclass(build_schema("patches"), Config)
    assert type(load_config([], [SHAPE])) is build_schema("patches")


@pytest.mark.parametrize(("path", "cls"), TABLES)
def test_every_table_and_key_is_documented(path, cls):
    assert cls.__doc__, path
    undocumented = [name for name, info in cls.model_fields.items() if not info.description]
    assert undocumented == []


@pytest.mark.parametrize(("path", "cls"), TABLES)
def test_defaults_survive_being_written(path, cls):
    """TOML has no None, and a relative default path would change its meaning with the folder."""
    for name, info in cls.model_fields.items():
        if info.is_required() or info.default is None:
            continue
        assert type(None) not in get_args(info.annotation), f"{path}.{name}: None cannot be set"
        assert not holds_path(info.annotation), f"{path}.{name}: paths must default to None"


def test_shapes_have_as_many_axes_as_the_data():
    with pytest.raises(ConfigError) as caught:
        load_config([], ["method.patch_shape=[5, 5, 5]"])
    assert str(caught.value) == (
        "--set method.patch_shape=[5, 5, 5] [method] patch_shape: must have 2 numbers, one per"
        " axis, because data.ndim = 2; got [5, 5, 5]; change it or data.ndim"
    )


def test_a_flat_z_axis_is_no_axis():
    assert load_config([], ["method.patch_shape=[1, 25, 25]"]).method.patch_shape == (25, 25)


def test_elastic_numbers_are_per_axis_or_one_for_all():
    key = "training.augmentation.elastic.control_point_spacing"
    load_config([], [SHAPE, f"{key}=[10]"])
    load_config([], [SHAPE, f"{key}=[10, 20]"])
    with pytest.raises(ConfigError, match=r"must have 2 numbers, one per axis.*got \[1, 2, 3\]"):
        load_config([], [SHAPE, f"{key}=[1, 2, 3]"])


def test_a_wrong_ndim_accuses_no_shape():
    with pytest.raises(ConfigError) as caught:
        load_config([], ["method.patch_shape=[5, 5, 5]", "data.ndim=4"])
    assert str(caught.value) == "--set data.ndim=4 [data] ndim: must be one of 2, 3; got 4"


# --- lists of values to try ----------------------------------------------------------------------


def test_sweeps_name_keys_of_three_tables():
    names = sweepable(build_schema("patches"))
    assert "patch_threshold" in names
    assert "postprocessing.remove_small_comps" in names
    assert "evaluation.localization_criterion" in names
    assert "training.batch_size" not in names


def test_a_sweep_in_all_three_spellings(tmp_path):
    file = tmp_path / "sweep.toml"
    file.write_text(
        """
        [validation]
        params_product = ["patch_threshold", "postprocessing.fill_holes"]
        params_zip = ["fc_threshold", "postprocessing.remove_small_comps"]
        patch_threshold = [0.5, 0.7]
        fc_threshold = [0.5, 0.6]
        "postprocessing.fill_holes" = ["none", "per_instance"]
        postprocessing.remove_small_comps = [0, 5]
        """
    )
    config = load_config([file], [SHAPE, "validation.postprocessing.remove_small_comps=[1, 2]"])
    assert config.validation.values == {
        "patch_threshold": [0.5, 0.7],
        "fc_threshold": [0.5, 0.6],
        "postprocessing.fill_holes": ["none", "per_instance"],
        "postprocessing.remove_small_comps": [1, 2],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'params_product = ["patch_threshold"]\npatch_threshold = [0.5, 1.5, "x"]',
            "[validation] patch_threshold: every value must be a number of at least 0 and less than"
            ' 1; got "x"',
        ),
        (
            'params_product = ["patch_threshold"]\npatch_threshold = [0.5, 1.5, "x"]',
            "[validation] patch_threshold: every value must be a number of at least 0 and less than"
            " 1; got 1.5",
        ),
        (
            'params_product = ["postprocessing.fill_holes"]\n'
            'postprocessing.fill_holes = ["per_instanc"]',
            "[validation] postprocessing.fill_holes: every value must be one of"
            ' "none", "per_instance"; got "per_instanc"',
        ),
        (
            "params_prodct = [1]",
            "[validation] params_prodct: unknown key; did you mean 'params_product'? it must be one"
            " of checkpoints, params_product, params_zip, folds, split_file, folds_of,"
            " prediction_only, prediction_metric, or the values to try for a key of"
            " [vote_instances] or, dotted, of [postprocessing] or [evaluation]",
        ),
        (
            'params_product = ["patch_treshold"]\npatch_treshold = [0.5]',
            "[validation] patch_treshold: unknown key; did you mean 'patch_threshold'? it must be",
        ),
        (
            'params_zip = ["patch_threshold", "fc_threshold"]\n'
            "patch_threshold = [0.5]\nfc_threshold = [0.5, 0.6]",
            "lists must be equally long",
        ),
        ('params_product = ["patch_threshold"]', "patch_threshold: must be a list of values"),
        ('params_product = ["patch_threshold"]\npatch_threshold = 0.5', "must be a list of values"),
    ],
)
def test_wrong_sweeps(tmp_path, text, message):
    file = tmp_path / "sweep.toml"
    file.write_text(f"[validation]\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load_config([file], [SHAPE])
    assert message in str(caught.value)
    assert str(file) in str(caught.value)


def test_relative_data_folders_of_a_setup(tmp_path):
    file = tmp_path / "setups" / "setup01" / "default.toml"
    file.parent.mkdir(parents=True)
    file.write_text('[method]\npatch_shape = [9, 9]\n[data]\ntrain_data = "../../data/train"\n')
    assert load_config([file]).data.train_data == tmp_path / "data" / "train"
    flag = load_config([file], cli={"data.train_data": Path("/elsewhere")})
    assert flag.data.train_data == Path("/elsewhere")


@pytest.mark.parametrize("file", SETUPS, ids=lambda file: "/".join(file.parts[-4:]))
def test_every_setup_that_is_shipped_loads_and_reloads(file, tmp_path):
    config = load_config([file])
    written = tmp_path / "config.toml"
    written.write_text(config_to_toml(config), encoding="utf-8")
    assert load_config([written]) == config


def test_a_sweep_names_keys_in_full_too():
    names = sweepable(build_schema("patches"))
    assert names["vote_instances.patch_threshold"] == names["patch_threshold"]

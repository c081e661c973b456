"""``[method]``: names and letters, and what is refused."""

import pytest
from pydantic import ValidationError

from instaseg.config.load import load_config
from instaseg.errors import ConfigError
from instaseg.methods.channels.config import CHANNEL_NAMES, ChannelsSettings
from instaseg.methods.channels.legacy import GENERATIONS, letters_in, translate

BEFORE, MIDDLE, FROM = GENERATIONS


def settings(channels, letters=None, **tables):
    return ChannelsSettings.model_validate({"channels": channels, "letters": letters, **tables})


def test_default_channels_can_be_decoded():
    assert ChannelsSettings().channels == ("foreground", "contour")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("BC", ("interior", "contour")),
        ("CB", ("contour", "interior")),
        ("BP", ("foreground", "centre")),
        ("BCM", ("interior", "contour", "foreground")),
        ("BCD", ("interior", "contour", "distance")),
        ("BCDv2", ("interior", "contour", "ridge")),
        ("Dv2", ("ridge",)),
        ("BDv2", ("interior", "ridge")),
        (["B", "CD"], ("interior", "contour", "distance")),
    ],
)
@pytest.mark.parametrize("letters", [BEFORE, MIDDLE])
def test_legacy_letters(text, names, letters):
    assert settings(text, letters).channels == names


def test_the_same_letters_mean_something_else_in_each_generation():
    first, second, third = (settings(["B", "C", "D"], letters) for letters in GENERATIONS)
    assert first.channels == second.channels == ("interior", "contour", "distance")
    assert third.channels == ("background", "contour", "signed_distance")
    assert (first.distance.scale, first.distance.polarity) == ("physical", "high_inside")
    assert (second.distance.scale, second.distance.polarity) == ("physical", "low_inside")
    assert (first.distance.border_of, second.distance.border_of) == ("instance", "interior")


def test_current_letters():
    found = settings(["F", "Gv", "Gh", "H", "V", "Dc", "Dn", "T"], FROM)
    assert found.channels == (
        *("foreground", "flow", "offset_x", "offset_y"),
        *("centre_distance", "neighbour_distance", "touching"),
    )
    assert settings(["Db", "R"], FROM).distance.learnt == "everywhere"
    assert settings(["F", "Db"], FROM).distance.learnt == "foreground"
    assert settings("A", FROM).affinities.widen_borders == 1


def test_keys_that_are_written_win_over_what_letters_imply():
    found = settings("BCD", BEFORE, distance={"scale": "instance"})
    assert found.distance.scale == "instance"


@pytest.mark.parametrize("letters", GENERATIONS)
def test_a_table_that_was_written_out_is_read_as_the_same(letters):
    found = settings("DC", letters)
    assert ChannelsSettings.model_validate(found.model_dump()) == found


@pytest.mark.parametrize(
    ("channels", "letters", "message"),
    [
        ("BC", None, "mean different things in its versions"),
        (["B", "C"], None, '"biapy_before_3.0" or "biapy_3.0_to_3.5" or "biapy_from_3.6"'),
        (["forground"], None, 'unknown channel "forground"; did you mean "foreground"?'),
        ("BCX", MIDDLE, '"X" in "BCX" is neither a channel nor a letter'),
        ("BF", MIDDLE, 'it belongs to synapses; use name = "synapses"'),
        ("We", FROM, r"use \[method.border_weight\]"),
        (["F", "C", "M"], FROM, "use F and C"),
        (["E"], FROM, "embeddings are not available"),
        (["F", "Gv"], FROM, "a flow is Gv and Gh"),
        ("CC", BEFORE, 'every channel once; got "contour" twice'),
        ([], None, r"one channel or more; got \[\]"),
    ],
)
def test_refused_channels(channels, letters, message):
    with pytest.raises(ValidationError, match=message):
        settings(channels, letters)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"weights": [1.0]}, "weights must have one value for each of the 2 channels"),
        ({"weights": [0, 0]}, "weights must not all be 0"),
        ({"losses": ["l1"]}, "losses must have one value for each of the 2 channels"),
        (
            {"channels": ["ridge"], "contour": {"mode": "dense_legacy"}},
            '"ridge" cannot use; choose "thick" or "inner"',
        ),
    ],
)
def test_refused_tables(tables, message):
    with pytest.raises(ValidationError, match=message):
        ChannelsSettings.model_validate(tables)


def test_letters_from_a_file_and_its_base(tmp_path):
    base = '[method]\nname = "channels"\nletters = "biapy_3.0_to_3.5"\n[model]\n'
    base += 'padding = "same"\n'
    base += "train_input_shape = [64, 64]\ntest_input_shape = [64, 64]\n"
    (tmp_path / "base.toml").write_text(base)
    (tmp_path / "own.toml").write_text('extends = "base.toml"\n[method]\nchannels = "BCD"\n')
    found = load_config([tmp_path / "own.toml"]).method
    assert isinstance(found, ChannelsSettings)
    assert found.channels == ("interior", "contour", "distance")
    assert found.distance.polarity == "low_inside"


def test_letters_without_generation_in_a_file(tmp_path):
    (tmp_path / "own.toml").write_text('[method]\nname = "channels"\nchannels = "BCD"\n')
    with pytest.raises(ConfigError, match=r"\[method\].*BCD are BiaPy's letters"):
        load_config([tmp_path / "own.toml"])


def test_keys_of_biapy_are_answered(tmp_path):
    text = '[method]\nname = "channels"\nDATA_CHANNEL_WEIGHTS = [1, 1, 0.5]\n'
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(ConfigError, match="DATA_CHANNEL_WEIGHTS: is gone; use weights"):
        load_config([tmp_path / "own.toml"])


def test_longest_letters_first():
    assert letters_in("BDv2", MIDDLE) == ["B", "Dv2"]
    assert letters_in("DbDcDnD", FROM) == ["Db", "Dc", "Dn", "D"]


def test_names_need_no_generation():
    assert translate(["flow", "rays"], CHANNEL_NAMES, None).names == ("flow", "rays")

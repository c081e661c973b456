"""What is written loads back to the same."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instaseg.config.load import load_config
from instaseg.config.write import config_to_toml
from instaseg.settings import Table

BASE = load_config([], ["method.patch_shape=[25, 25]"])


class Values(Table):
    """One of each kind."""

    text: str = ""
    number: float = 0.0
    count: int = 0
    items: tuple[tuple[float, ...], ...] = ()
    words: tuple[str, ...] = ()
    flag: bool = False
    nothing: str | None = None


def reload(config, folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.toml"
    file.write_text(config_to_toml(config), encoding="utf-8")
    return load_config([file])


def test_a_configuration_loads_back_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "start").mkdir()
    monkeypatch.chdir(tmp_path / "start")
    config = load_config(
        [],
        [
            "method.patch_shape=[9, 9]",
            "data.train_data=images",
            'validation.params_product=["patch_threshold", "postprocessing.fill_holes"]',
            "validation.patch_threshold=[0.5, 1e-5]",
            'validation.postprocessing.fill_holes=["none"]',
            "training.max_minutes=0.1",
        ],
    )
    monkeypatch.chdir("/")
    assert reload(config, tmp_path / "elsewhere") == config
    assert config.data.train_data == tmp_path / "start" / "images"


def test_keys_without_value_are_left_out():
    written = tomllib.loads(config_to_toml(BASE))
    assert "max_minutes" not in written["training"]
    assert written["method"] == {"patch_shape": [25, 25], **written["method"]}


finite = st.floats(allow_nan=False)


@given(
    st.builds(
        Values,
        text=st.text(),
        number=finite,
        count=st.integers(-(2**63), 2**63 - 1),
        items=st.lists(st.lists(finite, max_size=3), max_size=3),
        words=st.lists(st.text(), max_size=3),
        flag=st.booleans(),
    )
)
def test_every_value_survives(values):
    assert Values.model_validate(tomllib.loads(config_to_toml(values))) == values


@pytest.mark.parametrize("text", ["a\\xb", "\x7f", "\u2028", "\x00", 'say "x"', "äöü", "tab\t"])
def test_texts_that_are_easily_spoilt(text):
    assert tomllib.loads(config_to_toml(Values(text=text)))["text"] == text


changes = st.fixed_dictionaries(
    {},
    optional={
        "general.seed": st.integers(0, 2**31),
        "data.raw_key": st.text(min_size=1),
        "data.mask_key": st.text(min_size=1),
        "data.test_data": st.text("ab/._- ", min_size=1),
        "training.max_minutes": st.floats(1e-6, 1e6),
        "optimizer.lr": st.floats(1e-12, 10),
        "optimizer.optimizer": st.sampled_from(["Adam", "AdamW", "SGD"]),
        "model.fmap_inc_factors": st.floats(1, 3)
        | st.lists(st.floats(1, 3), min_size=3, max_size=3),
        "validation.checkpoints": st.just("all") | st.lists(st.integers(1, 10**6), max_size=3),
        "vote_instances.patch_threshold": st.floats(0, 0.999),
    },
)


@given(changes)
def test_every_configuration_loads_back(tmp_path_factory, changes):
    config = load_config([], ["method.patch_shape=[25, 25]"], cli=changes)
    assert reload(config, tmp_path_factory.getbasetemp() / "written") == config

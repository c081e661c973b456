"""Tables of data, sampling, augmentation: what they refuse, what has replaced old keys."""

import pytest
from pydantic import ValidationError

from instaseg.data import config
from instaseg.data.config import (
    REMOVED_KEYS,
    AugmentationSettings,
    DataSettings,
    ElasticSettings,
    SamplingSettings,
)

WRONG = [
    (DataSettings, {"ndim": 4}, "Input should be 2 or 3"),
    (DataSettings, {"voxel_size": [1.0, 1.0, 1.0]}, "voxel_size must be 2 numbers"),
    (DataSettings, {"cross_val_folders": ["val_data", "val_data"]}, "two different data sets"),
    (DataSettings, {"normalization": {"lower": 99, "upper": 2}}, "lower must be below upper"),
    (SamplingSettings, {"probability_random": 0.7}, r"got 0.7 \+ 0.5 \+ 0.0 \+ 0.0 = 1.2"),
    (SamplingSettings, {"probability_overlap": 0.5}, r"got 0.5 \+ 0.5 \+ 0.0 \+ 0.5 = 1.5"),
    (AugmentationSettings, {"overlay": {"combine": "sum"}}, "Input should be 'max' or 'min'"),
    (AugmentationSettings, {"hue": {"range": [30, -30]}}, "must be .low, high."),
    (ElasticSettings, {"rotation_min": 10, "rotation_max": 5}, "must not exceed rotation_max"),
    (ElasticSettings, {"shear": [-95, 10]}, "must lie between -90 and 90 degrees; got .-95"),
    (AugmentationSettings, {"cutout": {"size": [0, 1.5]}}, "must lie between 0 and 1; got .0"),
    (AugmentationSettings, {"cutout": {"count": [3, 1]}}, "low <= high; got .3, 1."),
    (AugmentationSettings, {"gamma": {"range": [0, 1]}}, "must be positive; got .0"),
    (DataSettings, {"split": {"folds": 3, "fold": 4}}, "fold must be at most folds; got 4 of 3"),
    (DataSettings, {"split": {"folds": 1}}, "greater than or equal to 2"),
    (ElasticSettings, {"zoom": [0, 1]}, r"must be positive; got \[0.0, 1.0\]"),
    (AugmentationSettings, {"intensity": {"scale": [2, 1]}}, "must be .low, high."),
    (AugmentationSettings, {"blur": {"sigma": [-1, 1]}}, "must not be negative"),
]


@pytest.mark.parametrize(("table", "values", "message"), WRONG)
def test_wrong_values_are_refused(table, values, message):
    with pytest.raises(ValidationError, match=message):
        table(**values)


def test_removed_keys_are_not_keys():
    tables = {
        "data": config.DataSettings,
        "training.sampling": config.SamplingSettings,
        "training.augmentation": config.AugmentationSettings,
        "training.augmentation.elastic": config.ElasticSettings,
        "training.augmentation.simple": config.SimpleSettings,
        "training.augmentation.intensity": config.IntensitySettings,
    }
    assert set(REMOVED_KEYS) == {*tables, "preprocessing"}
    for name, table in tables.items():
        assert not set(REMOVED_KEYS[name]) & set(table.model_fields)


def test_every_field_is_described():
    for table in vars(config).values():
        if isinstance(table, type) and issubclass(table, config.Table):
            for name, field in table.model_fields.items():
                assert field.description, f"{table.__name__}.{name}"

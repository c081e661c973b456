import pytest

from instaseg.methods.deep_watershed.config import (
    DeepWatershedSettings,
    LabelSettings,
    disagreements,
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edges": (1.5, 0.5)}, r"edges\n.*must ascend; got \[1.5, 0.5\]"),
        ({"edges": (0.5, 2.0)}, r"square is a whole number.*got 2.0; take 2.05"),
        ({"edges": (0.5, 2.236068)}, "square is a whole number.*got 2.236068"),
        ({"wall_width": 4}, "must be odd, 3 or more; got 4; leave it out for no walls"),
        ({"wall_width": 1}, "must be odd, 3 or more; got 1"),
        (
            {"network": "stages", "background": "label"},
            'background must be "ignored" where network = "stages" and gate = "hard"',
        ),
        ({"losses": "published"}, 'depth must be "classes" where losses = "published"'),
        (
            {"losses": "published", "depth": "classes", "background": "label"},
            'background must be "ignored" where losses = "published"',
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DeepWatershedSettings(**changes)


def test_default_edges_lie_between_the_depths_that_voxels_have():
    edges = DeepWatershedSettings().edges
    assert all(abs(edge**2 - round(edge**2)) > 0.05 for edge in edges)


def test_width_of_the_dilation_is_odd():
    with pytest.raises(ValueError, match="must be odd and positive; got 2"):
        LabelSettings(dilate_width=2)


@pytest.mark.parametrize(
    ("method", "label", "place", "why"),
    [
        ({"gate": "soft"}, {}, "gate", "network = 'shared'"),
        ({"background_reach": 9.0}, {}, "background_reach", "background = 'ignored'"),
        ({"network": "stages", "mask_corruption": 0.1}, {}, "mask_corruption", "gate = 'hard'"),
        (
            {"losses": "published", "depth": "classes", "rim_weight": 2.0},
            {},
            "rim_weight",
            "losses = 'published'",
        ),
        ({}, {"grow": "dilate", "grow_most": 3.0}, "grow_most", "grow = 'dilate'"),
        ({}, {"dilate_width": 5}, "dilate_width", "grow = 'flood'"),
    ],
)
def test_keys_that_nothing_looks_at_are_refused(method, label, place, why):
    tables = {
        "method": DeepWatershedSettings(**method),
        "vote_instances": LabelSettings(**label),
    }
    (((_, key), message),) = disagreements(tables)
    assert key == place
    assert f"has no effect with {why}; got" in message


def test_a_type_has_its_own_cut():
    settings = LabelSettings(cut=1.0, cut_of_type=("astro 3", "large cort 2.5"))
    assert settings.for_type("astro") == LabelSettings(cut=3.0)
    assert settings.for_type("large cort") == LabelSettings(cut=2.5)
    assert settings.for_type("cort") == LabelSettings(cut=1.0)
    assert settings.for_type(None) == LabelSettings(cut=1.0)


@pytest.mark.parametrize("text", ["cort", "1.5", "cort x", "cort -1", "cort nan", "cort inf"])
def test_types_without_cuts_are_refused(text):
    with pytest.raises(ValueError, match=f'such as "cort 1.5"; got "{text}"'):
        LabelSettings(cut_of_type=(text,))

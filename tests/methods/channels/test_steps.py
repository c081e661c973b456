"""Steps worked out by hand; a part with its halo gives what the whole gives."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from instaseg.methods.channels import steps
from instaseg.methods.channels.config import ChannelsSettings, LabelSettings
from instaseg.methods.channels.presets import Term, make_plan
from instaseg.methods.channels.registry import channels_of
from instaseg.regions.thresholds import count_values


def row(*values):
    return np.array([values], np.float32)


def plan_of(names, labelling=None, spacing=(1.0, 1.0), **tables):
    channels = ChannelsSettings.model_validate({"channels": names, **tables})
    own = LabelSettings.model_validate(labelling or {})
    return make_plan(channels, own, spacing), own


def test_jumps_lie_where_offsets_fall_back():
    along = row(-1, 0, 1, -1, 0, 1)
    across = row(0, 0, 0, 0, 0, 0)
    found = steps.jumps([across, along], "instance", (1.0, 1.0))
    assert found.tolist() == [[0, 0, 1, 1, 0, 0]]
    physical = steps.jumps([2 * across, 2 * along], "physical", (1.0, 1.0))
    np.testing.assert_allclose(physical, [[0, 0, 2 / 6, 2 / 6, 0, 0]], rtol=1e-6)


def test_jumps_of_the_other_component_count_too():
    along = row(-1, -0.5, 0, 0.5)
    across = row(0.7, 0.7, -0.2, -0.2)
    found = steps.jumps([across, along], "instance", (1.0, 1.0))
    np.testing.assert_allclose(found, [[0, 0.9, 0.9, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("side", "word", "expected"),
    [("above", "otsu", [2, 3]), ("below", "otsu", [0, 1]), ("above", "otsu_half", [1, 2, 3])],
)
def test_otsu_divides_low_from_high_on_both_sides(side, word, expected):
    values = row(0.1, 0.3, 0.8, 0.9)
    plan, _ = plan_of(["foreground"], {"seed_foreground": "otsu"})
    term = Term("foreground", word, side)
    plan = plan.__class__(**{**vars(plan), "seeds": (term,)})
    channels = {one.name: one for one in channels_of(ChannelsSettings(channels=["foreground"]), 2)}
    found = steps.with_numbers(plan, {"foreground": count_values(values)}, channels)
    holds = steps.holds({"foreground": values}, found.seeds[0])
    assert np.flatnonzero(holds).tolist() == expected


def test_only_thresholds_that_are_words_need_counts():
    plan, _ = plan_of(["foreground", "contour"], {"seed_contour": "otsu"})
    assert steps.needs_counts(plan) == ("contour",)


def test_widened_takes_steps_across_faces():
    mask = np.zeros((5, 5), bool)
    mask[2, 2] = True
    assert steps.widened(mask, 1).sum() == 5
    assert steps.widened(mask, 2).sum() == 13
    assert steps.widened(mask, 0).sum() == 1


def test_a_surface_is_low_inside_whatever_the_polarity():
    values = {"contour": row(1, 0, 1), "foreground": row(0.5, 1, 0.5)}
    plan, _ = plan_of(["foreground", "contour"], {"surface_smoothing": 0.0})
    assert steps.surface(values, plan, None, (1, 1)).tolist() == [[0.5, -1, 0.5]]
    low, _ = plan_of(["foreground", "distance"], distance={"polarity": "low_inside"})
    assert steps.surface({"distance": row(1, 0)}, low, None, (1, 1)).tolist() == [[1, 0]]


def test_what_lies_outside_the_mask_does_not_blur_into_the_surface():
    plan, _ = plan_of(["foreground", "distance"], {"surface_smoothing": 1.0})
    mask = np.array([[False, True, True, True]])
    found = steps.surface({"distance": row(9, 0.5, 0.5, 0.5)}, plan, mask, (1, 1))
    np.testing.assert_allclose(found, [[0, -0.5, -0.5, -0.5]], rtol=1e-6)


def test_peaks_within_a_ball_of_voxels_that_are_no_cubes():
    values = np.zeros((3, 3), np.float32)
    values[0, 0], values[2, 0], values[0, 2] = 3, 2, 1
    found = steps.local_peaks(values, 2.0, (1.0, 2.0))
    assert (found[0, 0], found[2, 0], found[0, 2]) == (True, False, True)


@pytest.mark.parametrize(
    ("which", "most", "expected"),
    [
        ("border", None, [True, False, False]),
        ("border", 9.0, [True, False, False]),
        ("large", 9.0, [False, True, False]),
        ("border_or_large", 9.0, [True, True, False]),
    ],
)
def test_regions_at_the_border_or_of_some_size_are_background(which, most, expected):
    chosen = LabelSettings(background_seeds=which, max_object=most)
    outer, sizes = np.array([True, False, False]), np.array([1, 18, 17])
    assert steps.are_outside(outer, sizes, chosen, 0.5).tolist() == expected


def test_the_background_is_seeded_far_from_interior_and_contours():
    values = {
        "interior": row(1, 0, 0, 0, 0, 0),
        "contour": row(0, 1, 0, 0, 0, 0),
        "ridge": row(0, 1, 0.9, 0.8, 0.7, 0.6),
    }
    plan, own = plan_of(["interior", "contour", "ridge"])
    found = steps.background_far(values, plan, own, (1.0, 1.0))
    assert np.flatnonzero(found).tolist() == [4, 5]


SETS = [
    (["foreground", "contour"], {}),
    (["interior", "contour", "distance"], {}),
    (["interior", "contour", "distance"], {"contour": {"thickness": 1.5}}),
    (["foreground", "distance"], {}),
    (["interior", "contour", "ridge"], {}),
]
LABELLINGS = [
    {},
    {"seed_peaks": 1.5, "surface_smoothing": 1.2},
    {"seed_smoothing": 1.0, "seed_steps": ["erode", "open"], "seed_radii": [1.0, 1.5]},
    {"mask_steps": ["close", "dilate"], "mask_radii": [1.0, 2.0]},
]


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    chosen=st.sampled_from(SETS),
    labelling=st.sampled_from(LABELLINGS),
    spacing=st.sampled_from([(1.0, 1.0), (2.0, 1.0)]),
)
def test_a_part_with_its_halo_gives_what_the_whole_gives(seed, chosen, labelling, spacing):
    names, tables = chosen
    assume("ridge" not in names or "mask_steps" not in labelling)  # it has no mask
    plan, own = plan_of(names, labelling, spacing, **tables)
    rng = np.random.default_rng(seed)
    coarse = rng.random((len(names), 12, 14)).astype(np.float32)
    fine = coarse.repeat(3, axis=1).repeat(3, axis=2)
    values = dict(zip(names, fine + 0.2 * rng.random(fine.shape, np.float32), strict=True))
    begin = rng.integers(0, 25, 2)
    end = begin + rng.integers(1, 12, 2)
    halo = steps.halo(plan, own, spacing)
    first = [max(0, b - h) for b, h in zip(begin, halo, strict=True)]
    wide = tuple(slice(f, e + h) for f, e, h in zip(first, end, halo, strict=True))
    inner = tuple(slice(b - f, e - f) for b, f, e in zip(begin, first, end, strict=True))
    box = tuple(slice(b, e) for b, e in zip(begin, end, strict=True))
    part = {name: np.ascontiguousarray(channel[wide]) for name, channel in values.items()}
    for make in (_mask, _seeds, _surface, _far):
        whole, cut = make(values, plan, own, spacing), make(part, plan, own, spacing)
        if whole is not None:
            np.testing.assert_array_equal(cut[inner], whole[box])


def _mask(values, plan, own, spacing):
    return steps.growth_mask(values, plan, own, spacing)


def _seeds(values, plan, own, spacing):
    return steps.seed_mask(values, plan, own, _mask(values, plan, own, spacing), spacing)


def _surface(values, plan, own, spacing):
    return steps.surface(values, plan, _mask(values, plan, own, spacing), spacing)


def _far(values, plan, own, spacing):
    return steps.background_far(values, plan, own, spacing)

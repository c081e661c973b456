"""Shear and misaligned sections; rotation, zoom and jitter are tested with the pipeline."""

import numpy as np
import pytest

from instaseg.data.augment_geometry import draw_deformation, draw_misalignment, undeformed
from instaseg.data.config import ElasticSettings, MisalignmentSettings
from instaseg.geometry import Box

STILL = ElasticSettings(rotation_max=0, jitter_sigma=(0.0,), zoom=(1, 1))


def positions(settings, resolution=(1.0, 1.0)):
    box = Box((0, 0), (9, 9))
    return draw_deformation(np.random.default_rng(0), settings, box, np.array(resolution))


def test_shear_slants_y_towards_x():
    """At 45 degrees a voxel one row below the centre is read one column further right."""
    field = positions(STILL.model_copy(update={"shear": (45.0, 45.0)}))
    np.testing.assert_allclose(field[0], np.indices((9, 9))[0], atol=1e-5)
    rows, columns = np.indices((9, 9))
    np.testing.assert_allclose(field[1], columns + (rows - 4), atol=1e-5)


def test_shear_is_in_physical_space():
    """Rows twice as high as columns are wide: one row is two columns."""
    field = positions(STILL.model_copy(update={"shear": (45.0, 45.0)}), (2.0, 1.0))
    np.testing.assert_allclose(field[1, :, 4] - 4, 2 * (np.arange(9) - 4), atol=1e-5)


def test_without_shear_the_same_numbers_are_drawn():
    some = ElasticSettings(zoom=(0.5, 2.0))
    np.testing.assert_array_equal(
        positions(some), positions(some.model_copy(update={"shear": (0.0, 0.0)}))
    )


def test_undeformed_reads_every_voxel_where_it_is():
    found = undeformed(Box((-1, 2), (1, 5)))
    np.testing.assert_array_equal(found[0], [[-1] * 3, [0] * 3])
    np.testing.assert_array_equal(found[1], [[2, 3, 4]] * 2)


@pytest.mark.parametrize("kind", ["one_section", "from_section", "either"])
def test_misaligned_sections(kind):
    settings = MisalignmentSettings(kind=kind, max_shift=3)
    kinds = set()
    for seed in range(40):
        moved = draw_misalignment(np.random.default_rng(seed), settings, 6)
        assert moved.shape == (6, 2)
        assert np.abs(moved).max() <= 3
        assert not moved[0].any()
        places = np.flatnonzero(moved.any(axis=1))
        if len(places) == 0:
            continue  # moved by nothing
        first = places[0]
        assert (moved[places] == moved[first]).all()
        if first < 5:
            assert list(places) in ([first], list(range(first, 6)))
            kinds.add("one_section" if len(places) == 1 else "from_section")
    assert kinds == ({kind} if kind != "either" else {"one_section", "from_section"})


def test_a_single_section_stays():
    assert not draw_misalignment(np.random.default_rng(0), MisalignmentSettings(), 1).any()

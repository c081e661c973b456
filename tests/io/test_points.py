"""Tables of points: what is refused, partners that move, CSV files."""

import re

import numpy as np
import pytest

from instaseg.io.points import connections, faults, make_points, select, write_points

SHAPE = (4, 10, 12)


@pytest.fixture
def table():
    """Return one pre with two posts, and a lonely post."""
    places = [[1, 2, 3], [1, 2, 6], [2, 5, 5], [3, 9.4, 11]]
    return make_points([0, 1, 1, 1], places, partner=[-1, 0, 0, -1])


def test_a_sound_table_has_no_faults(table):
    assert list(faults(table, SHAPE)) == []
    assert connections(table).tolist() == [[0, 1], [0, 2]]


@pytest.mark.parametrize(
    ("row", "column", "value", "text"),
    [
        (2, 0, 7, r"row 2 is of kind 7; expected 0 \(pre\), 1 \(post\) or 2 \(cleft\)"),
        (3, 2, 9.6, r"row 3 lies at \(3, 9.6, 11\), outside the volume of \(4, 10, 12\) voxels"),
        (0, 1, -0.6, r"row 0 lies at \(-0.6, 2, 3\), outside the volume"),
        (1, -1, 9, r"row 1 is paired with a row that does not exist \(9 of 4\)"),
        (1, -1, 0.5, r"row 1 is paired with a row that does not exist \(0.5 of 4\)"),
        (1, -1, 2, r"row 1 is paired with a point that is not presynaptic \(row 2\)"),
        (0, -1, 0, r"row 0 is not postsynaptic but paired"),
        (1, 3, np.nan, "row 1 is not finite"),
    ],
)
def test_faults_name_the_row(table, row, column, value, text):
    table[row, column] = value
    found = next(faults(table, SHAPE))
    assert found.startswith("points: ")
    assert re.search(text, found), found


def test_another_number_of_columns_is_refused(table):
    (found,) = faults(table, SHAPE[1:])
    assert found == (
        "points have shape (4, 7); expected (n, 6): kind, y, x, probability, threshold, partner."
        " Write them again, or set data.ndim"
    )


def test_selected_rows_keep_their_partners(table):
    kept = select(table, np.array([False, True, True, True]))
    assert kept[:, -1].tolist() == [-1, -1, -1]
    kept = select(table, np.array([True, False, True, False]))
    assert kept[:, -1].tolist() == [-1, 0]
    assert table[:, -1].tolist() == [-1, 0, 0, -1]


def test_csv_files(table, tmp_path):
    table[:, -3], table[:, -2] = 0.75, 0.5
    files = write_points(table, tmp_path / "csv", name="a")
    assert [file.name for file in files] == [
        "a_pred_pre_locations.csv",
        "a_pred_post_locations.csv",
        "a_pre_post_mapping.csv",
    ]
    assert files[0].read_text() == (
        "id,axis-0,axis-1,axis-2,probability,threshold\n0,1,2,3,0.75,0.5\n"
    )
    assert files[1].read_text().splitlines()[-1] == "3,3,9.4,11,0.75,0.5"
    assert files[2].read_text() == "pre_id,post_id\n0,1\n0,2\n-1,3\n"


def test_csv_files_of_clefts_have_no_mapping(tmp_path):
    files = write_points(make_points(2, [[3, 4]]), tmp_path, name="b")
    assert [file.name for file in files] == ["b_pred_cleft_locations.csv"]
    assert files[0].read_text() == "id,axis-0,axis-1,probability,threshold\n0,3,4,1,0\n"

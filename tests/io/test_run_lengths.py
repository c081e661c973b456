import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from instaseg.errors import DataError
from instaseg.io.run_lengths import decode, encode, encode_labels

MASK = np.array([[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], bool)


def test_runs_go_from_left_to_right_then_down():
    """Column by column it would be 4 2 7 1 12 1."""
    assert encode(MASK) == "2 2 6 1 12 1"
    assert np.array_equal(decode("2 2 6 1 12 1", (3, 4)), MASK)


@given(npst.arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))))
@settings(max_examples=60)
def test_a_mask_comes_back(mask):
    text = encode(mask)
    if mask.any():
        assert np.array_equal(decode(text, mask.shape), mask)
    else:
        assert text == ""


@given(npst.arrays(np.uint8, (5, 6), elements=st.integers(0, 4)))
@settings(max_examples=40)
def test_labels_in_one_pass_are_those_one_by_one(labels):
    expected = [
        (label, encode(labels == label)) for label in range(1, 5) if (labels == label).any()
    ]
    assert encode_labels(labels) == expected


def test_a_run_may_begin_where_another_ends():
    assert decode("1 2 3 1", (1, 4)).tolist() == [[True, True, True, False]]


@pytest.mark.parametrize("text", ["", "1", "1 x", "-1 2", "1.5 2"])
def test_what_is_no_pairs_is_refused(text):
    with pytest.raises(DataError, match="expected pairs of start and length, found"):
        decode(text, (3, 4))


@pytest.mark.parametrize("text", ["0 1", "12 2", "5 1 1 1", "1 3 2 1", "3 0"])
def test_runs_that_leave_the_image_or_do_not_ascend_are_refused(text):
    with pytest.raises(DataError, match="ascending runs of pixels 1 to 12 of an image of 3 x 4"):
        decode(text, (3, 4))

"""Which class an instance has: votes counted by hand, and in blocks as in the whole."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.postprocess.votes import (
    Ballot,
    added,
    class_ballot,
    count_votes,
    votes_of_classes,
    votes_of_probabilities,
)

LABELS = np.array([[4, 4, 0, 9], [4, 0, 0, 9]])


def test_the_class_with_most_votes_wins_and_background_has_none():
    classes = np.array([[2, 2, 1, 1], [1, 1, 1, 0]])
    ballot = count_votes(LABELS, votes_of_classes(classes, 3), ndim=2)
    assert ballot.channel.tolist() == [0, 0]
    assert ballot.label.tolist() == [4, 9]
    assert ballot.votes.tolist() == [[1, 2, 0], [1, 0, 0]]
    assert ballot.classes.tolist() == [2, 1]
    assert ballot.shares.tolist() == [2 / 3, 1.0]


def test_of_equal_votes_the_first_class_wins_and_without_votes_there_is_none():
    classes = np.array([[2, 1, 0, 0], [0, 0, 0, 0]])
    ballot = count_votes(LABELS, votes_of_classes(classes, 2), ndim=2)
    assert ballot.classes.tolist() == [1, 0]
    assert np.isnan(ballot.shares[1])


def test_instances_of_channels_vote_on_their_own():
    channels = np.stack([LABELS == 4, np.ones_like(LABELS, bool)])
    ballot = count_votes(channels, votes_of_classes(np.full((2, 4), 2), 2), ndim=2)
    assert list(zip(ballot.channel, ballot.label, strict=True)) == [(0, 1), (1, 1)]
    assert ballot.votes.tolist() == [[0, 3], [0, 8]]


def test_stored_probabilities_are_votes_of_255():
    assert votes_of_probabilities(np.uint8([0, 255])).tolist() == [0, 255]
    assert votes_of_probabilities(np.float16([0.0, 0.5, 1.0])).tolist() == [0, 128, 255]


def test_a_ballot_is_its_table():
    ballot = count_votes(LABELS, votes_of_classes(LABELS // 4, 2), ndim=2)
    assert (Ballot.from_table(ballot.table.astype(np.float64)).votes == ballot.votes).all()


def test_nobody_votes_in_an_empty_image():
    ballot = added([], 3)
    assert ballot.classes.tolist() == ballot.shares.tolist() == []


@given(
    st.integers(0, 10**6),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from([(), (2,)]),
)
@settings(max_examples=30)
def test_blocks_vote_as_the_whole(seed, block_shape, lead):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (*lead, 8, 7))
    stored = rng.random((3, 8, 7)).astype(np.float16)
    whole = count_votes(labels, votes_of_probabilities(stored), ndim=2)
    found = class_ballot(
        labels,
        lambda box: votes_of_probabilities(stored[(slice(None), *box.slices)]),
        ndim=2,
        count=3,
        block_shape=block_shape,
    )
    assert (found.table == whole.table).all()

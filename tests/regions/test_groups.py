"""Groups of linked nodes against a plain version."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from instaseg.regions.groups import group_linked


def plain(pairs, count):
    """Merge the groups of every pair, then number them by first node."""
    group = list(range(count))
    for a, b in pairs:
        group = [group[a] if one == group[b] else one for one in group]
    names = list(dict.fromkeys(group))
    return [names.index(one) for one in group]


@given(st.data())
def test_groups_are_numbered_by_their_first_nodes(data):
    count = data.draw(st.integers(0, 12))
    node = st.integers(0, max(count - 1, 0))
    pairs = data.draw(st.lists(st.tuples(node, node), max_size=12)) if count else []
    found = group_linked(np.array(pairs, np.int64).reshape(-1, 2), count)
    assert found.dtype == np.int64
    assert found.tolist() == plain(pairs, count)


def test_a_link_that_is_given_often_still_links():
    assert group_linked(np.array([[0, 1]] * 256), 2).tolist() == [0, 0]

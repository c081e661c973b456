import numpy as np

from instaseg.postprocess.config import PostprocessingSettings
from instaseg.postprocess.repair import postprocess
from instaseg.postprocess.scene import without_units


def repaired(labels, size, ndim=None):
    options = PostprocessingSettings(repair_size=size, relabel="keep")
    return postprocess(labels, options, without_units(ndim or labels.ndim))


def image(*rows):
    return np.array([[int(letter) for letter in row] for row in rows], np.uint8)


def test_pieces_inside_the_box_that_touch_go_to_the_big_one():
    labels = image(
        "9999990",
        "9000990",
        "9230900",
        "9900094",
        "9999990",
    )
    before = labels.copy()
    # 2 touches, 3 touches 2, 4 lies outside the box; the hole is filled
    assert repaired(labels, 20).tolist() == (
        image(
            "9999990",
            "9999990",
            "9999900",
            "9999994",
            "9999990",
        ).tolist()
    )
    assert (labels == before).all()


def test_a_piece_that_sticks_out_of_the_box_stays():
    labels = image(
        "99990",
        "99220",
        "99922",
        "99990",
    )
    assert repaired(labels, 10).tolist() == labels.tolist()
    assert repaired(labels[:, :4], 10).tolist() == np.full((4, 4), 9).tolist()


def test_instances_in_a_hole_stay_and_all_background_in_it_is_filled():
    labels = np.full((9, 9), 7, np.uint8)
    labels[1:8, 1:8] = 0
    labels[3:6, 3:6] = 2
    labels[4, 4] = 0
    found = repaired(labels, 20)
    assert ((found == 2) == (labels == 2)).all()
    assert (found[labels != 2] == 7).all()


def test_small_instances_take_in_nothing():
    labels = image("999", "929", "999")
    assert repaired(labels, 9).tolist() == labels.tolist()
    assert (repaired(labels, 8) == 9).all()


def test_the_bigger_takes_in_the_smaller_big_one():
    labels = image(
        "55555",
        "52225",
        "52125",
        "52225",
        "55555",
    )
    assert (repaired(labels, 8) == 5).all()


def test_in_volumes_a_third_may_stick_out_and_holes_go_in_all_directions():
    labels = np.zeros((6, 5, 5), np.int32)
    labels[:4] = 3
    labels[1:3, 1:3, 1:3] = 0
    labels[2:5, 4, 4] = 8  # two of three inside the box, up to z = 4: one outside
    stays = repaired(labels, 50)
    assert (stays == 8).sum() == 3  # a third is more than 30 %
    labels[1, 4, 4] = 8
    taken = repaired(labels, 50)
    assert not (taken == 8).any()
    assert taken[4, 4, 4] == 3
    assert (taken[:4] == 3).all()


def test_channels_are_repaired_one_by_one():
    labels = np.stack([image("99", "92"), image("20", "00")])
    assert repaired(labels, 3, ndim=2).tolist() == [[[9, 9], [9, 9]], [[2, 0], [0, 0]]]

import csv
import io

import numpy as np
import pytest

from instaseg.blockwise.memory import MemoryStore, run_here
from instaseg.blockwise.work import BlockWork
from instaseg.errors import DataError
from instaseg.io.arrays import open_array
from instaseg.io.samples import read_whole
from instaseg.postprocess import filters
from instaseg.postprocess.blocks import Output, postprocess_blocks
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.postprocess.repair import postprocess, postprocess_and_report
from instaseg.postprocess.scene import Scene

# 1: a bar of 1x10, 2: a square of 4x4, 3: a square of 2x2, 5: a bar of 2x6
LABELS = np.zeros((14, 14), np.uint16)
LABELS[1, 1:11], LABELS[4:8, 1:5], LABELS[4:6, 8:10], LABELS[10:12, 3:9] = 1, 2, 3, 5


def kept(rules, spacing=(1.0, 1.0), **options):
    settings = PostprocessingSettings(remove_where=rules, relabel="keep", **options)
    instances, report = postprocess_and_report(LABELS, settings, Scene(spacing))
    return [n for n in np.unique(instances).tolist() if n], report


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ([["area < 10"]], [1, 2, 5]),
        ([["area <= 10"]], [2, 5]),
        ([["area > 10"]], [1, 3]),
        ([["area >= 10"]], [3]),
        # AND inside a list
        ([["voxels >= 10", "circularity < 0.9"]], [2, 3]),
        ([["voxels >= 10", "circularity < 0.9", "diameter < 8"]], [1, 2, 3]),
        # OR between lists
        ([["voxels < 5"], ["voxels > 15"]], [1, 5]),
        ([["voxels < 5", "voxels > 15"], ["voxels >= 5"]], [3]),
    ],
)
def test_instances_that_meet_all_rules_of_a_list_go(rules, left):
    assert kept(rules)[0] == left


def test_rules_are_in_physical_units():
    assert kept([["area < 10"]], (0.5, 2.0))[0] == [1, 2, 5]
    assert kept([["area < 10"]], (0.5, 0.5))[0] == []
    assert kept([["diameter > 9"]], (1.0, 0.5))[0] == [1, 2, 3, 5]


def test_every_instance_has_a_row_with_what_became_of_it():
    settings = PostprocessingSettings(
        measure=["diameter"],
        remove_where=[["area >= 16"], ["voxels > 11", "extent gt 0.9"]],
        remove_small_comps=4,
    )
    instances, report = postprocess_and_report(LABELS, settings, Scene((1.0, 0.5)))
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert [row["label"] for row in rows] == ["1", "2", "3", "5"]
    assert [row["result_label"] for row in rows] == ["1", "0", "0", "0"]
    assert [row["comment"] for row in rows] == ["kept", "removed", "removed", "removed"]
    assert [row["conditions"] for row in rows] == [
        "",
        "voxels > 11 and extent gt 0.9",
        "at most 4 voxels (remove_small_comps)",
        "voxels > 11 and extent gt 0.9",
    ]
    assert list(rows[0]) == [
        *("channel", "label", "result_label", "centroid_y", "centroid_x"),
        *("begin_y", "begin_x", "end_y", "end_x"),
        *("diameter", "area", "voxels", "extent", "comment", "conditions"),
    ]
    # centroids, not the middle of the box in whole numbers
    assert (rows[3]["centroid_y"], rows[3]["centroid_x"]) == ("10.5", "5.5")
    assert [rows[3][f"begin_{a}"] for a in "yx"] == ["10", "3"]
    assert [rows[3][f"end_{a}"] for a in "yx"] == ["12", "9"]
    assert (rows[3]["area"], rows[3]["diameter"], rows[3]["voxels"]) == ("6", "3", "12")
    assert np.unique(instances).tolist() == [0, 1]


def test_channels_have_their_own_rows():
    masks = np.stack([LABELS == 2, np.zeros_like(LABELS, bool), LABELS == 3])
    settings = PostprocessingSettings(measure=["voxels"])
    instances, report = postprocess_and_report(masks, settings, Scene((1.0, 1.0)))
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    found = [(row["channel"], row["label"], row["result_label"], row["voxels"]) for row in rows]
    assert found == [("0", "1", "1", "16"), ("2", "1", "2", "4")]
    assert instances[2].max() == 2


def test_nothing_is_measured_unless_asked():
    report = kept([], remove_small_comps=4)[1]
    assert report.names == ()
    assert [row.reason for row in report.channels[0]] == [
        "",
        "",
        "at most 4 voxels (remove_small_comps)",
        "",
    ]


def test_no_instances_give_a_table_without_rows():
    settings = PostprocessingSettings(measure=["volume"])
    report = postprocess_and_report(np.zeros((2, 3, 4), int), settings, Scene((1.0,) * 3))[1]
    assert report.to_csv() == (
        "channel,label,result_label,centroid_z,centroid_y,centroid_x,"
        "begin_z,begin_y,begin_x,end_z,end_y,end_x,volume,comment,conditions\n"
    )


@pytest.mark.parametrize("block_shape", [(14, 14), (5, 4), (3, 14)])
def test_the_table_is_the_same_in_blocks(tmp_path, block_shape):
    settings = PostprocessingSettings(
        measure=["circularity", "solidity"], remove_where=[["eccentricity > 0.95"]]
    )
    report = postprocess_and_report(LABELS, settings, Scene((1.0, 0.5)))[1]
    table = tmp_path / "a.csv"
    output = Output(tmp_path / "a.zarr", "instances", {}, table)
    scene, work = Scene((1.0, 0.5)), BlockWork(block_shape, MemoryStore(), run_here)
    postprocess_blocks(LABELS, settings, scene, work=work, output=output)
    assert table.read_text() == report.to_csv()
    assert "removed,eccentricity > 0.95" in table.read_text()
    # a table of an earlier run does not stay where nothing is measured
    settings, work = PostprocessingSettings(), BlockWork(block_shape, MemoryStore(), run_here)
    postprocess_blocks(LABELS, settings, scene, work=work, output=output)
    assert not table.exists()


def test_small_instances_in_blocks_that_are_too_large_are_measured_one_by_one(
    tmp_path, monkeypatch
):
    settings = PostprocessingSettings(measure=["area"], remove_where=[["area < 2"]])
    labels = np.zeros((6, 8), np.uint8)
    labels[0, 0], labels[3:5, 1:3] = 1, 2
    monkeypatch.setattr(filters, "MOST_VOXELS", 9)
    output = Output(tmp_path / "a.zarr", "i", {}, tmp_path / "a.csv")
    work = BlockWork((6, 4), MemoryStore(), run_here)
    postprocess_blocks(labels, settings, Scene((1.0, 1.0)), work=work, output=output)
    found = read_whole(open_array(tmp_path / "a.zarr", "i"))
    assert found.tolist() == postprocess(labels, settings, Scene((1.0, 1.0))).tolist()


def test_an_instance_that_does_not_fit_in_memory_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(filters, "MOST_VOXELS", 9)
    settings, output = (
        PostprocessingSettings(measure=["area"]),
        Output(tmp_path / "a.zarr", "i", {}),
    )
    work = BlockWork((3, 3), MemoryStore(), run_here)
    with pytest.raises(DataError, match=r"instance 1: expected a bounding box of at most 9 voxels"):
        postprocess_blocks(LABELS, settings, Scene((1.0, 1.0)), work=work, output=output)
    assert not list(tmp_path.rglob("*.partial"))

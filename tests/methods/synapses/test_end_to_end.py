"""Synapses through the command line: train, validate, predict, label, evaluate, export."""

import csv

import h5py
import numpy as np
import pytest

from instaseg.cli import main
from instaseg.io.arrays import open_array, write_array
from instaseg.io.points import POINTS_KEY, make_points, positions
from instaseg.io.samples import read_whole

RAW = "volumes/raw"
SPACING = (40.0, 4.0, 4.0)
SHAPE = (6, 48, 48)

SETUP = """
[method]
name = "synapses"
kind = "{kind}"
blob_radius = 24
partner_distance = 60

[data]
ndim = 3
voxel_size = [40, 4, 4]
train_data = "{data}/train"
val_data = "{data}/val"
test_data = "{data}/test"

[general]
device = "cpu"

[model]
num_fmaps = 4
downsample_factors = [[1, 2, 2]]
kernel_size = [1, 3, 3]
padding = "same"
normalization = "batch"
train_input_shape = [4, 32, 32]
test_input_shape = [6, 48, 48]

[training]
batch_size = 2
max_iterations = {iterations}
checkpoints = {iterations}
val_log_step = {iterations}
val_batches = 1
snapshots = 0
log_step = 10
num_workers = 0
weight_averaging = 0

[training.augmentation.elastic]
control_point_spacing = [1, 16, 16]
jitter_sigma = [0, 1, 1]

[training.augmentation.simple]
transpose = [1, 2]

[optimizer]
lr = 1e-2

[validation]
params_product = ["post_threshold"]
post_threshold = [0.3, 0.5]

[evaluation]
tolerance = 24
"""


def draw_synapses(seed):
    """Return a volume with dark bars, beside which two lighter spots are, and the sites."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(150, 4, SHAPE)
    places, kinds, partner = [], [], []
    for y in (8, 24, 40):
        for x in (8, 28):
            z = int(rng.integers(1, 5))
            pre = len(places)
            for kind, (dy, dx), depth in ((0, (0, 0), 120), (1, (0, 9), 60), (1, (6, 6), 60)):
                place = (z, y + dy - 3, x + dx)
                places.append(place)
                kinds.append(kind)
                partner.append(-1 if kind == 0 else pre)
                raw[z, place[1] - 2 : place[1] + 3, place[2] - 2 : place[2] + 3] -= depth
    table = make_points(kinds, np.array(places), partner=partner)
    return np.clip(raw, 0, 255).astype(np.uint8), table


def write_sample(path, raw, table):
    write_array(path, RAW, raw[np.newaxis], attributes={"resolution": SPACING})
    write_array(path, POINTS_KEY, table)


def write_cremi(path, raw, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as out:
        out.create_dataset(RAW, data=raw).attrs["resolution"] = SPACING
        out["annotations/ids"] = np.arange(len(table))
        names = [b"presynaptic_site", b"postsynaptic_site"]
        out["annotations/types"] = np.array([names[int(kind)] for kind in table[:, 0]])
        out["annotations/locations"] = (positions(table) + 0.5) * SPACING
        pairs = [[int(row[-1]), number] for number, row in enumerate(table) if row[-1] >= 0]
        out["annotations/presynaptic_site/partners"] = np.array(pairs)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return data sets, one with samples of ours, one as CREMI has it."""
    folder = tmp_path_factory.mktemp("synapses")
    write_sample(folder / "train" / "a.zarr", *draw_synapses(0))
    write_sample(folder / "train" / "b.zarr", *draw_synapses(1))
    write_cremi(folder / "val" / "c.hdf", *draw_synapses(2))
    write_cremi(folder / "test" / "d.hdf", *draw_synapses(3))
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return a function that runs the command line on a setup in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run_here(text, *arguments):
        folder = tmp_path / "experiments" / "t" / "setups" / "setup01"
        folder.mkdir(parents=True)
        (folder / "default.toml").write_text(text)
        capsys.readouterr()
        code = main(["--app", "t", "--root", str(tmp_path), *arguments])
        return code, capsys.readouterr()

    return run_here


def setup(data, kind="pre_post", iterations=4):
    return SETUP.format(data=data, kind=kind, iterations=iterations)


def experiment(folder):
    (found,) = folder.glob("t_*")
    return found


def test_points_are_found_scored_and_exported(run, data, tmp_path):
    code, printed = run(setup(data, iterations=8), "--do", "all", "export")
    assert code == 0, printed.err
    folder = experiment(tmp_path)
    (result,) = folder.glob("test/instances/*/*/d.zarr")
    table = read_whole(open_array(result, "points"))
    truth = draw_synapses(3)[1]
    assert table.shape[1] == truth.shape[1]
    (summary,) = folder.glob("test/evaluated/*/*/summary.csv")
    rows = list(csv.DictReader(summary.read_text().splitlines()))
    assert [row["sample"] for row in rows] == ["d", "mean", "pooled"]
    assert all(0 <= float(rows[0][name]) <= 1 for name in ("pre.F1", "post.F1"))
    assert rows[0]["cleft.F1"] == "nan"
    assert (folder / "report/overlays/d.png").is_file()
    exported = {path.name: path for path in (folder / "test/export").iterdir()}
    assert sorted(exported) == [
        "d_pre_post_mapping.csv",
        "d_pred_post_locations.csv",
        "d_pred_pre_locations.csv",
    ]
    lines = exported["d_pred_pre_locations.csv"].read_text().splitlines()
    assert lines[0] == "id,axis-0,axis-1,axis-2,probability,threshold"
    assert len(table) > 0
    assert len(lines) == 1 + int((table[:, 0] == 0).sum())
    associations = result.parents[3] / "evaluated"
    names = {path.name for path in associations.rglob("*.csv")}
    assert {"d_pre_gt_assoc.csv", "d_pre_fp.csv", "d_post_gt_assoc.csv"} <= names


def test_vectors_run_in_blocks_and_with_turned_images(run, data, tmp_path):
    text = setup(data, "post_vector") + '\n[prediction]\nsymmetries = "flips_and_rotations"\n'
    code, printed = run(
        text.replace("[general]", "[general]\nblock_shape = [3, 24, 24]"),
        "--do",
        "train",
        "predict",
        "label",
        "evaluate",
    )
    assert code == 0, printed.err
    (blocks,) = experiment(tmp_path).glob("test/instances/*/*/d.zarr")
    assert open_array(blocks, "points").shape[1] == 7


@pytest.mark.parametrize(
    ("row", "column", "value", "text"),
    [
        (
            4,
            2,
            48,
            "a: points: row 4 lies at (2, 48, 28), outside the volume of (6, 48, 48) voxels",
        ),
        (1, -1, 99, "a: points: row 1 is paired with a row that does not exist (99 of 18)"),
        (0, 0, 4, "a: points: row 0 is of kind 4"),
    ],
)
def test_bad_points_are_found_before_training(run, data, tmp_path, row, column, value, text):
    raw, table = draw_synapses(0)
    table[row, column] = value
    if column == 2:
        table[row, 1], table[row, 3] = 2, 28
    write_sample(tmp_path / "bad" / "a.zarr", raw, table)
    changed = setup(data).replace(f"{data}/train", str(tmp_path / "bad"))
    code, printed = run(changed, "--do", "train")
    assert code == 2
    assert text in printed.err


def test_data_without_what_is_learnt_are_refused(run, data):
    changed = setup(data, "cleft").replace("tolerance = 24", 'tolerance = 24\nmetric = "cleft.F1"')
    changed = changed.replace('params_product = ["post_threshold"]\n', "")
    changed = changed.replace("post_threshold = [0.3, 0.5]\n", "")
    code, printed = run(changed, "--do", "train")
    assert code == 2
    assert f"{data}/train: expected points of kind cleft in at least one sample" in printed.err
    assert "found 12 pre, 24 post, 0 cleft. Set method.cleft_target" in printed.err


def test_samples_without_sites_are_refused(run, data, tmp_path):
    write_array(tmp_path / "bare" / "a.zarr", RAW, draw_synapses(0)[0][np.newaxis])
    changed = setup(data).replace(f"{data}/train", str(tmp_path / "bare"))
    code, printed = run(changed, "--do", "train")
    assert code == 2
    assert "a.zarr has no sites of synapses; expected an array 'volumes/gt_points'" in printed.err


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("voxel_size = [40, 4, 4]\n", "", "[data] voxel_size"),
        ("partner_distance = 60\n", "", "partner_distance must be given where kind = 'pre_post'"),
        ("tolerance = 24\n", "", "tolerance"),
        (
            "tolerance = 24\n",
            'tolerance = 24\nmetric = "cleft.F1"\n',
            "must be a score of connections or pre or post because method.kind = 'pre_post'",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(run, data, old, new, text):
    code, printed = run(setup(data).replace(old, new), "--do", "train")
    assert code == 2
    assert text in printed.err

"""BiaPy's configurations: what is translated, what is said about the rest, what is refused."""

import re

import pytest

from instaseg.cli import import_parser, main
from instaseg.config.import_biapy import GENERATIONS, import_biapy
from instaseg.config.load import load_config
from instaseg.data.check import check_augmentation
from instaseg.errors import ConfigError

LEGACY = """# BiaPy version: 3.4.1
PROBLEM:
    TYPE: INSTANCE_SEG
    NDIM: 2D
    INSTANCE_SEG:
        DATA_CHANNELS: {channels}
        DATA_MW_TH_TYPE: {how}
        DATA_MW_TH_BINARY_MASK: 0.4
        DATA_MW_TH_CONTOUR: 0.2
        DATA_MW_TH_POINTS: 0.6
DATA:
    PATCH_SIZE: (128, 128, 3)
    TRAIN:
        PATH: /data/train/x
        GT_PATH: /data/train/y
TRAIN:
    LR: 1.E-4
    PATIENCE: 50
"""

LATER = """
PROBLEM:
    TYPE: INSTANCE_SEG
    NDIM: {ndim}
    INSTANCE_SEG:
        DATA_CHANNELS: {channels}
DATA:
    PATCH_SIZE: {patch}
"""


@pytest.fixture
def translated(tmp_path):
    """Return a function from YAML to a loaded configuration and the remarks."""

    def translate(text, **options):
        (tmp_path / "biapy.yaml").write_text(text)
        found = import_biapy(tmp_path / "biapy.yaml", **options)
        (tmp_path / "ours.toml").write_text(found.toml)
        return load_config([tmp_path / "ours.toml"]), "\n".join(found.remarks)

    return translate


@pytest.mark.parametrize(
    ("channels", "names"),
    [
        ("BC", ("interior", "contour")),
        ("BP", ("foreground", "centre")),
        ("BCM", ("interior", "contour", "foreground")),
        ("BCD", ("interior", "contour", "distance")),
        ("BCDv2", ("interior", "contour", "ridge")),
        ("Dv2", ("ridge",)),
        ("BDv2", ("interior", "ridge")),
    ],
)
def test_legacy_channels_mean_what_they_meant(translated, channels, names):
    for letters in (None, "biapy_before_3.0", "biapy_3.0_to_3.5"):
        text = LEGACY.format(channels=channels, how="auto")
        config, remarks = translated(text, letters=letters)
        assert config.method.channels == names
        era = "before 3.0" if letters == "biapy_before_3.0" else "3.0 to 3.5"
        assert f"{channels} as in BiaPy {era}" in remarks


def test_polarity_follows_the_version(translated):
    text = LEGACY.format(channels="BCD", how="auto")
    polarities = [
        translated(text, letters=letters)[0].method.distance.polarity
        for letters in ("biapy_before_3.0", "biapy_3.0_to_3.5")
    ]
    assert polarities == ["high_inside", "low_inside"]


def test_thresholds_as_numbers_or_by_otsu(translated):
    config, remarks = translated(LEGACY.format(channels="BC", how="manual"))
    found = config.vote_instances
    assert (found.seed_foreground, found.seed_contour, found.seed_centre) == (0.4, 0.2, None)
    assert "DATA_MW_TH_POINTS: is not used with these channels" in remarks
    config, remarks = translated(LEGACY.format(channels="BP", how="auto"))
    assert config.vote_instances.seed_centre == "otsu"
    assert "validate_checkpoints" in remarks


def test_data_and_training(translated):
    config, remarks = translated(LEGACY.format(channels="BC", how="manual"))
    assert str(config.data.train_data) == "/data/train"
    assert (config.data.num_channels, config.data.ndim) == (3, 2)
    assert config.data.split.folds == 10  # a tenth is held out unless the file says otherwise
    assert config.model.train_input_shape == (128, 128)
    assert (config.training.patience, config.optimizer.lr) == (50, 1e-4)
    assert "TRAIN.EPOCHS: training counts iterations" in remarks


def test_lists_are_of_later_versions(translated):
    text = LATER.format(ndim="3D", channels="['Db', 'Gh', 'Gv', 'Gz']", patch="(20, 64, 64, 1)")
    config, remarks = translated(text)
    assert config.method.channels == ("distance", "flow")
    assert config.method.distance.learnt == "everywhere"
    assert config.data.ndim == 3
    assert "as in BiaPy from 3.6" in remarks
    assert "DATA.PATCH_SIZE: [32, 64, 64] is the next that fits the levels" in remarks
    background, remarks = translated(
        LATER.format(ndim="2D", channels="['B', 'C']", patch="(64, 64, 1)")
    )
    assert background.method.channels == ("background", "contour")
    assert "until 3.5 it was the inside of instances" in remarks


def test_the_oldest_keys_tell_their_version(translated):
    text = """
PROBLEM: {TYPE: INSTANCE_SEG, NDIM: 3D}
DATA:
    CHANNELS: BCD
    MW_TH1: 0.8
    MW_TH4: 4.5
    PATCH_SIZE: (64, 64, 64, 1)
MODEL: {ARCHITECTURE: resunet, FEATURE_MAPS: [36, 48, 64], Z_DOWN: 1}
"""
    config, remarks = translated(text)
    assert config.method.distance.polarity == "high_inside"
    assert (config.vote_instances.seed_foreground, config.vote_instances.seed_distance) == (
        0.8,
        4.5,
    )
    assert config.model.downsample_factors == ((1, 2, 2), (1, 2, 2))
    assert config.model.fmaps_down == (36, 48, 64)
    assert "resunet is not available" in remarks


AUGMENTED = (
    LEGACY
    + """
AUGMENTOR:
    ENABLE: {on}
    DA_PROB: 0.25
    RANDOM_ROT: True
    ZOOM: True
    ZOOM_RANGE: (0.5, 1.5)
    VFLIP: True
    ROT90: False
    CONTRAST: True
    CUTOUT: True
    COUT_SIZE: (0.1, 0.2)
    CUTBLUR: True
    SALT: True
    GRIDMASK: True
"""
)


def test_augmentation(translated):
    config, remarks = translated(AUGMENTED.format(channels="BC", how="manual", on=True))
    found = config.training.augmentation
    assert (found.elastic.probability, found.elastic.zoom) == (0.25, (0.5, 1.5))
    assert (found.elastic.rotation_min, found.elastic.jitter_sigma) == (-180, (0,))
    assert (found.simple.mirror, found.simple.transpose) == ((0,), ())
    assert (found.intensity.scale, found.intensity.shift) == ((0.9, 1.1), (0, 0))
    assert (found.cutout.probability, found.cutout.size) == (0.25, (0.1, 0.2))
    assert (found.salt_pepper.kind, found.salt_pepper.probability) == ("salt", 0.25)
    assert "AUGMENTOR.CUTBLUR: one kind of cutout at a time" in remarks
    assert "AUGMENTOR.GRIDMASK: no such augmentation" in remarks
    assert "RANDOM_ROT, ZOOM are one step here" in remarks


@pytest.mark.parametrize(
    ("ndim", "patch", "steps"),
    [
        ("2D", "(64, 64, 1)", []),
        ("2D", "(64, 64, 3)", ["grayscale", "permute_channels"]),
        ("3D", "(16, 64, 64, 1)", ["misalignment", "missing_sections"]),
    ],
)
def test_augmentations_that_images_have_nothing_for(translated, ndim, patch, steps):
    flags = ("MISALIGNMENT", "MISSING_SECTIONS", "GRAYSCALE", "CHANNEL_SHUFFLE")
    config, remarks = translated(
        LATER.format(ndim=ndim, channels="[F, C]", patch=patch)
        + f"AUGMENTOR: {{ENABLE: True, {', '.join(f'{flag}: True' for flag in flags)}}}"
    )
    found = config.training.augmentation
    names = ("grayscale", "misalignment", "missing_sections", "permute_channels")
    assert [name for name in names if getattr(found, name).probability > 0] == steps
    assert remarks.count("needs ") == len(flags) - len(steps)
    check_augmentation(found, config.data, instances="separate")


def test_augmentation_that_is_off_is_off(translated):
    config, _ = translated(AUGMENTED.format(channels="BC", how="manual", on=False))
    found = config.training.augmentation
    assert [found.elastic.probability, found.intensity.probability] == [0, 0]
    assert (found.simple.mirror, found.simple.transpose) == ((), ())
    assert found.cutout.probability == 0


SEMANTIC = """
PROBLEM: {TYPE: SEMANTIC_SEG, NDIM: 2D}
"""


@pytest.mark.parametrize(
    ("loss", "weights"),
    [
        ("TYPE: CE", (1, 0)),
        ("TYPE: DICE", (0, 1)),
        ("TYPE: W_CE_DICE", (0.66, 0.34)),
        ("TYPE: W_CE_DICE, WEIGHTS: [0.5, 0.25]", (0.5, 0.25)),
    ],
)
def test_semantic_segmentation(translated, loss, weights):
    text = f"""{SEMANTIC}
DATA: {{PATCH_SIZE: "(64, 64, 1)", N_CLASSES: 3, TEST: {{ARGMAX_TO_OUTPUT: False}}}}
LOSS: {{{loss}, IGNORE_INDEX: 255, CLASS_REBALANCE: manual, CLASS_WEIGHTS: [1, 2, 3]}}
TEST: {{AUGMENTATION: True, AUGMENTATION_MODE: max}}
"""
    config, remarks = translated(text)
    method = config.method
    assert (method.name, method.num_classes, method.ignore_index) == ("semantic", 3, 255)
    assert (method.ce_weight, method.dice_weight) == weights
    assert method.class_weights == (1, 2, 3)
    assert config.vote_instances.output == "probabilities"
    assert config.prediction.symmetries_mode == "max"
    assert "LOSS" not in remarks


def test_what_semantic_segmentation_has_not_is_told(translated):
    text = f"""{SEMANTIC}
DATA: {{PATCH_SIZE: "(64, 64, 1)"}}
LOSS: {{TYPE: CE, CLASS_REBALANCE: auto}}
TEST:
    POST_PROCESSING: {{MEDIAN_FILTER: True, MEDIAN_FILTER_AXIS: [yx], MEDIAN_FILTER_SIZE: [4],
                      REPARE_LARGE_BLOBS_SIZE: 50}}
"""
    config, remarks = translated(text)
    assert config.postprocessing.median == ("xy 5",)
    assert config.postprocessing.repair_size == 0
    assert "repair_size repairs instances, and there are none; left out" in remarks
    assert "CLASS_REBALANCE: weights are not found by themselves; give 2 numbers" in remarks
    assert 'vote_instances.threshold = "otsu" finds a threshold for each image' in remarks


@pytest.mark.parametrize(
    ("keys", "shares", "rest"),
    [
        ("EXTRACT_RANDOM_PATCH: True", (1, 0, 0), ("each", "anywhere")),
        (
            "EXTRACT_RANDOM_PATCH: True, PROBABILITY_MAP: True",
            (0, 0.94, 0.06),
            ("voxels", "centre"),
        ),
        (
            "TRAIN: {EXTRACT_RANDOM_PATCH: True}, PROBABILITY_MAP: True, W_FOREGROUND: 0.7,"
            " W_BACKGROUND: 0.3",
            (0, 0.7, 0.3),
            ("voxels", "centre"),
        ),
        ("EXTRACT_RANDOM_PATCH: False", (0.5, 0.5, 0), ("each", "anywhere")),
    ],
)
def test_sampling(translated, keys, shares, rest):
    config, remarks = translated(f'{SEMANTIC}DATA: {{PATCH_SIZE: "(64, 64, 1)", {keys}}}')
    found = config.training.sampling
    assert (found.probability_random, found.probability_fg, found.probability_bg) == shares
    assert (found.balance, found.place) == rest
    assert ("EXTRACT_RANDOM_PATCH: crops are drawn at random" in remarks) == (shares[0] == 0.5)
    assert ("objects at the border count" in remarks) == (shares[0] == 0)


REPAIRED = """
TEST:
    POST_PROCESSING:
"""


def repaired(translated, keys, *, channels="['F', 'C']", ndim="2D"):
    """Return the table of repairs, and the remarks, for keys of post-processing."""
    patch = "(64, 64, 1)" if ndim == "2D" else "(32, 64, 64, 1)"
    text = LATER.format(ndim=ndim, channels=channels, patch=patch)
    indented = "\n".join(f"        {line}" for line in keys.splitlines())
    config, remarks = translated(f"{text}{REPAIRED}{indented}")
    return config.postprocessing, remarks


def test_operations_on_instances(translated):
    found, remarks = repaired(
        translated,
        """REPARE_LARGE_BLOBS_SIZE: 200
WATERSHED_CIRCULARITY: 0.6
CLEAR_BORDER: True
INSTANCE_REFINEMENT:
    ENABLE: True
    OPERATIONS: [erosion, fill_holes, remove_small_objects, dilation, opening]
    VALUES: [5, none, 20, [3, 3], 1]""",
    )
    assert found.repair_size == 200
    assert found.refine == ("erode 2", "fill_holes", "remove_small 20", "dilate 1", "clear_border")
    assert found.remove_where == (("circularity <= 0.6",),)
    assert found.perimeter == "contour"
    assert "OPERATIONS: opening is not available; left out" in remarks
    assert "sides of boxes in voxels have become radii of balls in physical units" in remarks


def test_medians(translated):
    old = "YZ_FILTERING: True\nZ_FILTERING: True\nZ_FILTERING_SIZE: 7"
    assert repaired(translated, old, ndim="3D")[0].median == ("yz 5", "z 7")
    later = "MEDIAN_FILTER: True\nMEDIAN_FILTER_AXIS: [yx, zx, tx]\nMEDIAN_FILTER_SIZE: [4, 3, 3]"
    found, remarks = repaired(translated, later, ndim="3D")
    assert found.median == ("xy 5", "xz 3")
    assert "MEDIAN_FILTER: no filter has the axes tx" in remarks
    found, remarks = repaired(translated, old)
    assert found.median == ()
    assert 'Z_FILTERING: needs volumes; set data.ndim = 3 with data.stack = "z"' in remarks


@pytest.mark.parametrize(
    ("channels", "mask"),
    [
        ("['F', 'C']", ("foreground", "above", 0.3)),
        ("['B', 'C']", ("background", "below", 0.7)),
        ("BC", ("interior", "above", 0.3)),
        ("BCM", ("foreground", "above", 0.3)),
    ],
)
def test_growth(translated, channels, mask):
    keys = "VORONOI_ON_MASK: True\nVORONOI_TH: 0.3"
    found, remarks = repaired(translated, keys, channels=channels)
    assert (found.voronoi.head, found.voronoi.side, found.voronoi.threshold) == mask
    assert found.voronoi.plus == (("contour",) if channels == "BC" else ())
    assert ("mask (interior + contour)" in remarks) == (channels == "BC")


def test_growth_without_a_threshold_or_mask(translated):
    found, remarks = repaired(translated, "VORONOI_ON_MASK: True")
    assert found.voronoi.threshold == "otsu"
    assert "VORONOI_TH" not in remarks
    found, remarks = repaired(translated, "VORONOI_ON_MASK: True", channels="['C']")
    assert found.voronoi.head is None
    assert "VORONOI_ON_MASK: the channels contour give no mask" in remarks


MEASURED = """MEASURE_PROPERTIES:
    ENABLE: True
    EXTRA_PROPS: [solidity, eccentricity, mood]
    REMOVE_BY_PROPERTIES:
        ENABLE: True
        PROPS: [[area], [npixels, SHAPE], [mood]]
        VALUES: [[500], [100, 0.7], [1]]
        SIGNS: [[gt], [lt, le], [lt]]"""


def test_measurements(translated):
    found, remarks = repaired(translated, MEASURED.replace("SHAPE", "circularity"))
    assert found.remove_where == (("area gt 500",), ("voxels lt 100", "circularity le 0.7"))
    assert {"voxels", "area", "circularity", "solidity", "eccentricity"} <= set(found.measure)
    assert found.perimeter == "contour"
    assert "EXTRA_PROPS: mood is not measured; left out" in remarks
    assert "PROPS: mood: not all of them are measured; left out" in remarks
    assert "PROPS: lengths, areas and volumes are in physical units" in remarks


def test_measurements_of_volumes_have_other_names(translated):
    found, remarks = repaired(translated, MEASURED.replace("SHAPE", "sphericity"), ndim="3D")
    assert found.remove_where == (("volume gt 500",), ("voxels lt 100", "sphericity_cubed le 0.7"))
    assert found.perimeter == "crofton"
    assert "EXTRA_PROPS: eccentricity is not measured" in remarks
    found, remarks = repaired(translated, "WATERSHED_CIRCULARITY: 0.5", ndim="3D")
    assert found.remove_where == ()
    assert "WATERSHED_CIRCULARITY: is of images" in remarks


def test_filters_of_before_measurements(translated):
    keys = """REMOVE_BY_PROPERTIES: [[npixels]]
REMOVE_BY_PROPERTIES_VALUES: [[100]]
REMOVE_BY_PROPERTIES_SIGN: [[lt]]"""
    assert repaired(translated, keys)[0].remove_where == (("voxels lt 100",),)


def test_what_is_off_is_off_and_needs_no_remark(translated):
    keys = """VORONOI_ON_MASK: False
VORONOI_TH: 0.0
MEDIAN_FILTER: False
YZ_FILTERING: False
REPARE_LARGE_BLOBS_SIZE: -1
WATERSHED_CIRCULARITY: -1
APPLY_MASK: False
MEASURE_PROPERTIES: {ENABLE: False, REMOVE_BY_PROPERTIES: {ENABLE: False, PROPS: [[area]]}}"""
    found, remarks = repaired(translated, keys)
    assert found == type(found)()
    assert "POST_PROCESSING" not in remarks


def instances(channels, keys="", *, ndim="2D", rest=""):
    """Return a YAML with channels, and keys of instance segmentation."""
    patch = "(64, 64, 1)" if ndim == "2D" else "(32, 64, 64, 1)"
    indented = "".join(f"        {line}\n" for line in keys.splitlines())
    text = LATER.format(ndim=ndim, channels=channels, patch=patch)
    return text.replace("DATA:\n", f"{indented}DATA:\n") + rest


@pytest.mark.parametrize(
    ("channels", "weights", "found", "remark"),
    [
        ("['F', 'Gv', 'Gh']", [1, 2, 2], (1, 2), ""),
        ("['F', 'Gv', 'Gh']", [1, 2, 3], (), "one channel here, with one value; found [2.0, 3.0]"),
        ("['F', 'C']", [1, 2, 0.5], (1, 2), ""),
        ("['F', 'C']", [1], (), "expected 2 values for F, C, found 1; left out"),
        ("BCDv2", [1, 2, 3], (1, 2, 3), ""),
    ],
)
def test_weights_are_of_channels(translated, channels, weights, found, remark):
    config, remarks = translated(instances(channels, f"DATA_CHANNEL_WEIGHTS: {weights}"))
    assert config.method.weights == found
    assert remark in remarks
    assert ("DATA_CHANNEL_WEIGHTS" in remarks) == bool(remark)


def test_classes_of_instances(translated):
    keys = "DATA_CHANNEL_WEIGHTS: [1, 2, 0.5]"
    text = instances("['F', 'C']", keys).replace("DATA:\n", "DATA:\n    N_CLASSES: 4\n")
    config, remarks = translated(text)
    assert (config.method.weights, config.method.instance_classes.count) == ((1, 2), 3)
    assert config.method.instance_classes.weight == 0.5
    assert config.data.label_channels == "labels_and_classes"
    assert "4 with the background: 3 classes of instances" in remarks


def test_losses_are_of_channels(translated):
    keys = "DATA_CHANNELS_LOSSES: [CE, mae, mae]\nCLASS_REBALANCE_WITHIN_CHANNELS: True"
    config, _ = translated(instances("['F', 'Gv', 'Gh']", keys))
    assert (config.method.losses, config.method.class_balance) == (("bce", "l1"), "batch")
    keys = "DATA_CHANNELS_LOSSES: [bce, triplet]"
    config, remarks = translated(instances("['F', 'C']", keys))
    assert (config.method.losses, config.method.class_balance) == (("bce", "default"), "none")
    assert "triplet is not available; the channel's own loss is taken" in remarks
    assert "CLASS_REBALANCE_WITHIN_CHANNELS: not given: on from 3.7" in remarks


def test_distances_keep_their_threshold_where_others_are_automatic(translated):
    keys = "DATA_MW_TH_TYPE: auto\nDATA_MW_TH_DISTANCE: 2.5\nDATA_MW_TH_CONTOUR: 0.2"
    config, remarks = translated(instances("BCD", keys))
    found = config.vote_instances
    assert (found.seed_distance, found.seed_foreground, found.seed_contour) == (2.5, "otsu", "otsu")
    assert (found.mask_foreground, found.mask_distance) == ("otsu_half", None)
    assert "are not used, and left out: PROBLEM.INSTANCE_SEG.DATA_MW_TH_CONTOUR" in remarks
    scaled = instances("BCD", keys).replace(
        "DATA:\n", "DATA:\n    TRAIN: {RESOLUTION: '(0.5, 0.5)'}\n"
    )
    config, remarks = translated(scaled)
    assert config.vote_instances.seed_distance == 1.25
    assert "2.5 voxels of 0.5 in the plane have become 1.25" in remarks


def test_thresholds_are_automatic_where_the_file_does_not_say(translated):
    config, remarks = translated(instances("BP", "DATA_MW_TH_BINARY_MASK: 0.4"))
    found = config.vote_instances
    assert (found.seed_centre, found.mask_foreground) == ("otsu", "otsu")  # not halved there
    assert "DATA_MW_TH_TYPE: not given: auto; " in remarks
    assert "3.0 knew no auto: add DATA_MW_TH_TYPE: manual" in remarks
    found = translated(instances("C"))[0].vote_instances
    assert (found.seed_contour, found.mask_contour) == ("otsu", "otsu_half")
    found = translated(instances("['F', 'Db']"))[0].vote_instances
    assert (found.seed_foreground, found.seed_distance) == ("otsu", "otsu")
    assert found.mask_foreground == "otsu_half"
    found = translated(instances("['Db', 'R']"))[0].vote_instances
    assert found.seed_distance is None  # star shapes have no automatic threshold


def test_ridges_by_the_image_become_ridges_by_instance(translated):
    text = instances("BCDv2", "DATA_MW_TH_DISTANCE: 1.5")
    config, remarks = translated(text, letters="biapy_before_3.0")
    assert config.method.ridge.scale == "instance"
    assert "scaled by the largest distances of the image, which crops do not show" in remarks
    assert config.vote_instances.seed_distance is None
    assert "DATA_MW_TH_DISTANCE: must be a value of ridge, from 0 to 1; got 1.5" in remarks


@pytest.mark.parametrize(
    ("channels", "ndim", "found", "remark"),
    [
        ("['F', 'C']", "2D", "flips_and_rotations", ""),
        ("['F', 'V', 'H']", "2D", "flips", "offset_y of an image with swapped axes is another"),
        ("['Db', 'R']", "3D", "none", "expected rays that turn into rays, found 96 in 3-D"),
    ],
)
def test_symmetries_are_those_that_heads_can_be_turned_by(
    translated, channels, ndim, found, remark
):
    text = instances(channels, ndim=ndim, rest="TEST: {AUGMENTATION: True}\n")
    config, remarks = translated(text)
    assert config.prediction.symmetries == found
    assert ("TEST.AUGMENTATION" in remarks) == bool(remark)
    assert remark in remarks


@pytest.mark.parametrize(
    ("channels", "keys", "mode", "remark"),
    [
        ("BC", "DATA_CONTOUR_MODE: inner", "inner", ""),
        ("BC", "DATA_CONTOUR_MODE: dense", "dense_legacy", ""),
        ("BCM", "DATA_CONTOUR_MODE: dense", "thick", "dense is not available with these channels"),
        ("BP", "DATA_CONTOUR_MODE: outer", "thick", "DATA_CONTOUR_MODE: is not used with these"),
        (
            "['F', 'C']",
            "DATA_CHANNELS_EXTRA_OPTS: [{C: {mode: dense}, F: {erosion: 1}}]",
            "dense",
            "DATA_CHANNELS_EXTRA_OPTS: F: erosion not translated",
        ),
    ],
)
def test_modes_of_contours(translated, channels, keys, mode, remark):
    config, remarks = translated(instances(channels, keys))
    assert config.method.contour.mode == mode
    assert remark in remarks


def test_distances_and_rays_as_stardist_learns_them(translated):
    options = "DATA_CHANNELS_EXTRA_OPTS: [{R: {nrays: 16}}]"
    config, remarks = translated(instances("['Db', 'R']", options))
    assert config.method.losses == ("bce", "l1")
    assert config.method.distance.learnt == "everywhere"
    assert config.method.rays.number == 16
    assert "EXTRA_OPTS" not in remarks
    given = "DATA_CHANNELS_LOSSES: [l1, l1]"
    assert translated(instances("['Db', 'R']", given))[0].method.losses == ("l1", "l1")


def test_options_of_distances_and_weight_of_borders(translated):
    options = "DATA_CHANNELS_EXTRA_OPTS: [{Db: {val_type: raw, mask_values: False}}]"
    weight = "BORDER_EXTRA_WEIGHTS: unet-like"
    config, remarks = translated(instances("['F', 'Db']", f"{options}\n{weight}"))
    assert config.method.losses == ()
    assert (config.method.distance.scale, config.method.distance.learnt) == (
        "physical",
        "everywhere",
    )
    assert config.method.border_weight.strength == 10
    assert "EXTRA_OPTS" not in remarks
    assert "BORDER" not in remarks
    _, remarks = translated(
        instances("['F', 'Db']", "DATA_CHANNELS_EXTRA_OPTS: [{Db: {val_type: omnipose}}]")
    )
    assert "Db: val_type not translated" in remarks


def test_keys_of_tests_are_answered(translated):
    text = """DATA: {TEST: {LOAD_GT: True}}
TEST: {FULL_IMG: True, ANALIZE_2D_IMGS_AS_3D_STACK: True, MATCHING_STATS_THS: [0.3]}
"""
    _, remarks = translated(instances("['F', 'C']", rest=text))
    for key in ("FULL_IMG: the result is that of the whole image", 'data.stack = "z"'):
        assert key in remarks
    assert "evaluation.thresholds" in remarks
    assert "no such key" not in remarks


def test_distances_that_are_learnt_in_the_background_too(translated):
    config, _ = translated(instances("BD", "DISTANCE_CHANNEL_MASK: False"))
    assert config.method.distance.learnt == "everywhere"


SURFACE = "    TOPOGRAPHIC_SURFACE_CHANNEL: C"


def test_channels_of_seeds_and_mask(translated):
    keys = """WATERSHED:
    SEED_CHANNELS: [C, Dn]
    SEED_CHANNELS_THRESH: [0.7, auto]
    TOPOGRAPHIC_SURFACE_CHANNEL: Dn
    GROWTH_MASK_CHANNELS: [F]
    GROWTH_MASK_CHANNELS_THRESH: [0.3]"""
    config, _ = translated(instances("['F', 'C', 'Dn']", keys))
    found = config.vote_instances
    # the first channel is turned around there: 1 - C > 0.7
    assert (found.seed_contour, found.seed_distance, found.mask_foreground) == (0.3, "otsu", 0.3)
    assert found.seed_channels == ("contour", "neighbour_distance")
    assert (found.mask_channels, found.flooded_channels) == (None, None)  # as without them
    assert found.seed_foreground is None
    wrong = keys.replace("[0.7, auto]", "[0.7]")
    assert (
        "expected a value for each of SEED_CHANNELS (2), found 1"
        in translated(instances("['F', 'C', 'Dn']", wrong))[1]
    )
    keys = """WATERSHED:
    SEED_CHANNELS: [F, V, H]
    SEED_CHANNELS_THRESH: [0.5, 0.5, 0.4]
    GROWTH_MASK_CHANNELS: [F, C]"""
    config, remarks = translated(instances("['F', 'V', 'H', 'C']", f"{keys}\n{SURFACE}"))
    found = config.vote_instances
    assert (found.seed_contour, found.mask_foreground, found.mask_contour) == (
        0.4,
        "otsu_half",
        "otsu",
    )
    assert found.seed_channels == ("foreground", "offsets")
    assert "C: below half of Otsu's threshold there, below Otsu's threshold here" in remarks
    keys = "WATERSHED: {SEED_CHANNELS: [Db], GROWTH_MASK_CHANNELS: [Db]}"
    config, remarks = translated(instances("['Db', 'R']", keys))
    assert config.vote_instances.seed_channels is None
    assert "SEED_CHANNELS: distance, rays are decoded without a watershed; left out" in remarks


def test_steps_and_sizes_are_physical(translated):
    keys = """SEED_MORPH_SEQUENCE: [dilate, erode]
SEED_MORPH_RADIUS: [1, 2]
ERODE_AND_DILATE_FOREGROUND: True
FORE_EROSION_RADIUS: 3
DATA_REMOVE_BEFORE_MW: True
DATA_REMOVE_AFTER_MW: True
DATA_REMOVE_SMALL_OBJ_AFTER: 50"""
    text = instances("BC", keys, ndim="3D")
    text = text.replace("DATA:\n", "DATA:\n    TRAIN: {RESOLUTION: '(4, 0.5, 0.5)'}\n")
    config, remarks = translated(text)
    found = config.vote_instances
    assert config.data.voxel_size == (4, 0.5, 0.5)
    assert (found.seed_steps, found.seed_radii) == (("dilate", "erode"), (0.5, 1))
    # the key of the erosion is the radius of the dilation, which comes first
    assert (found.mask_steps, found.mask_radii) == (("dilate", "erode"), (1.5, 2.5))
    assert (found.min_seed, found.min_object) == (10, 50)  # a voxel has a volume of 1
    assert "discs of each section have become balls" in remarks
    flat = instances("BC", keys.replace("RADIUS: [1, 2]", "RADIUS: [1]"))
    config, remarks = translated(
        flat.replace("DATA:\n", "DATA:\n    TRAIN: {RESOLUTION: '(2, 2)'}\n")
    )
    assert (config.vote_instances.seed_steps, config.vote_instances.min_seed) == ((), 40)
    assert "expected dilate and erode with a radius each" in remarks
    assert "in physical units: voxels times their size 4" in remarks


def test_relative_folders_are_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "there" / "biapy.yaml"
    file.parent.mkdir()
    file.write_text(LEGACY.format(channels="BC", how="auto").replace("/data/", "data/"))
    found = import_biapy(file)
    (file.parent / "ours.toml").write_text(found.toml)
    assert load_config([file.parent / "ours.toml"]).data.train_data == tmp_path / "data" / "train"
    assert "DATA.TRAIN.PATH: is relative to the folder that BiaPy is run in" in str(found.remarks)


def test_what_is_named_but_not_translated(translated):
    text = LATER.format(ndim="2D", channels="['F', 'C']", patch="(64, 64, 1)")
    _, remarks = translated(
        f"{text}    TEST: {{ROI_MASK: /data/roi}}\n"
        "TEST: {POST_PROCESSING: {REMOVE_CLOSE_POINTS: True}}"
    )
    assert "ROI_MASK: put masks in a folder beside the images" in remarks
    assert "postprocessing.roi_key" in remarks
    assert "REMOVE_CLOSE_POINTS: see [postprocessing]" in remarks
    sliced = text.replace("DATA_CHANNELS", "WATERSHED_BY_2D_SLICES: True\n        DATA_CHANNELS")
    assert "give sections as images of their own" in translated(sliced)[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            LATER.format(ndim="2D", channels="[B, C, D, v, 2]", patch="(64, 64, 1)"),
            "is what BiaPy's converter makes of a text with Dv2; write the text again",
        ),
        (LATER.format(ndim="2D", channels="[F, E]", patch="(64, 64, 1)"), "embeddings are not"),
        (LATER.format(ndim="2D", channels="[Q]", patch="(64, 64, 1)"), "neither a channel nor a"),
        (LATER.format(ndim="3D", channels="[F, C]", patch="(64, 64, 1)"), "expected 3 sides and"),
        (LATER.format(ndim="2D", channels="[H, V]", patch="(64, 64, 1)"), "cannot be meant here"),
        (
            LATER.format(ndim="2D", channels="BCDv2", patch="(64, 64, 1)").replace(
                "DATA_CHANNELS", "DATA_CONTOUR_MODE: dense\n        DATA_CHANNELS"
            ),
            'contour.mode "dense_legacy" makes all of the background contour',
        ),
        (
            LATER.format(ndim="2D", channels="[F, D]", patch="(64, 64, 1)").replace(
                "DATA_CHANNELS", "DATA_CHANNELS_LOSSES: [bce, bce]\n        DATA_CHANNELS"
            ),
            '[method] losses: expected "l1" or "mse" for signed_distance, found "bce"',
        ),
        (
            "PROBLEM: {TYPE: SEMANTIC_SEG}\nTRAIN: {EPOCHS: many}",
            "TRAIN.EPOCHS: expected a value as BiaPy has it, found 'many' (invalid literal",
        ),
        (
            "PROBLEM: {TYPE: SEMANTIC_SEG}\nTRAIN: {LR: .inf, EPOCHS: .inf}",
            "TRAIN.EPOCHS: expected a value as BiaPy has it, found inf (cannot convert",
        ),
        (
            "PROBLEM: {TYPE: SEMANTIC_SEG}\nTRAIN: {EPOCHS: 0, LR_SCHEDULER: {NAME: warmupcosine}}",
            "TRAIN.EPOCHS: expected a value as BiaPy has it, found 0 (division by zero)",
        ),
        (
            "PROBLEM: {TYPE: SEMANTIC_SEG}\nDATA: {PATCH_SIZE: [], N_CLASSES: 2}",
            "DATA.PATCH_SIZE: expected a value as BiaPy has it, found [] (list index out of range)",
        ),
        (
            "PROBLEM: {TYPE: SEMANTIC_SEG}\nTRAIN: {EPOCHS: many, LR: []}",
            "expected values as BiaPy has them, found several of another kind (list index",
        ),
        ("PROBLEM: {TYPE: CLASSIFICATION}", "this program has no such workflow"),
        (
            "PROBLEM: {TYPE: INSTANCE_SEG, NDIM: 3D, INSTANCE_SEG: {TYPE: synapses}}",
            "DATA.TRAIN.RESOLUTION: expected the size of a voxel along z, y and x",
        ),
        (
            "PROBLEM: {TYPE: INSTANCE_SEG, INSTANCE_SEG: {TYPE: synapses, DATA_CHANNELS: BF}}",
            "DATA_CHANNELS: expected the channels of synapses from 3.6 (F_post, F_pre; F_post, H,",
        ),
        ("a: [", "not valid YAML"),
        ("a: 1", "with a section PROBLEM, found none"),
    ],
)
def test_what_cannot_be_meant_is_refused(translated, text, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        translated(text)
    assert "biapy.yaml" in str(error.value)
    assert "\n" not in str(error.value)


SYNAPSES = """
PROBLEM:
    TYPE: INSTANCE_SEG
    NDIM: 3D
    INSTANCE_SEG:
        TYPE: synapses
        DATA_CHANNELS: {channels}
        SYNAPSES: {{TH_TYPE: {how}, MIN_TH_TO_BE_PEAK: [0.3, 0.4], PEAK_LOCAL_MAX_MIN_DISTANCE: 5}}
DATA:
    PATCH_SIZE: (16, 64, 64, 1)
    TRAIN:
        PATH: /data/train
        RESOLUTION: (40, 4, 4)
        INPUT_ZARR_MULTIPLE_DATA: True
        INPUT_ZARR_MULTIPLE_DATA_RAW_PATH: volumes.raw
        INPUT_ZARR_MULTIPLE_DATA_ID_PATH: annotations.ids
TEST: {{DET_TOLERANCE: [100]}}
"""


def test_synapses(translated):
    text = SYNAPSES.format(channels="[F_pre, F_post]", how="manual")
    config, remarks = translated(text)
    method, label = config.method, config.vote_instances
    assert (method.name, method.kind) == ("synapses", "pre_post")
    assert method.blob_radius == 40  # 1 voxel of 40 along z; 3 of 4 in the plane
    assert method.partner_distance == 160
    assert config.data.voxel_size == (40, 4, 4)
    assert config.data.raw_key == "volumes/raw"
    assert (label.threshold_by, label.pre_threshold, label.post_threshold) == ("value", 0.3, 0.4)
    assert label.min_distance == 20
    assert (config.evaluation.tolerance, config.evaluation.metric) == (100, "connections.F1")
    assert "160 is a guess" in remarks
    assert "annotations are read where files of CREMI have them" in remarks
    assert "no such key" not in remarks


def test_synapses_with_vectors_and_without_connections(translated):
    options = "DATA_CHANNELS_EXTRA_OPTS: [{V: {dilation: [2, 30, 30]}}]"
    text = SYNAPSES.format(channels="[Z, V, H, F_post]", how="auto")
    found = translated(text.replace("SYNAPSES", f"{options}\n        SYNAPSES"))[0]
    assert (found.method.kind, found.method.vector_radius) == ("post_vector", 120)
    assert found.vote_instances.threshold_by == "otsu"
    config, remarks = translated(SYNAPSES.format(channels="[F_cleft]", how="relative_by_patch"))
    assert (config.method.kind, config.method.partner_distance) == ("cleft", None)
    assert (config.evaluation.metric, config.vote_instances.cleft_threshold) == ("cleft.F1", 0.3)
    assert "TH_TYPE: relative_by_patch is not available; relative is taken" in remarks


def test_command_line(tmp_path, capsys):
    file, out = tmp_path / "biapy.yaml", tmp_path / "default.toml"
    file.write_text(LEGACY.format(channels="BC", how="auto"))
    assert main(["import-biapy", str(file), "--out", str(out)]) == 0
    assert load_config([out]).method.channels == ("interior", "contour")
    told = capsys.readouterr()
    assert "written:" in told.out
    assert "- TRAIN.EPOCHS:" in told.err
    assert main(["import-biapy", str(file), "--out", str(out)]) == 2
    assert "expected a new file" in capsys.readouterr().err
    assert main(["import-biapy", str(tmp_path / "none.yaml")]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert main(["import-biapy", str(file)]) == 0
    assert 'name = "channels"' in capsys.readouterr().out


def test_versions_on_the_command_line_are_those_of_the_method():
    (action,) = [a for a in import_parser()._actions if "--letters" in a.option_strings]
    assert action.choices == GENERATIONS

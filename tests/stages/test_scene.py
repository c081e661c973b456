"""What post-processing needs of samples and methods is checked before any work."""

import numpy as np
import pytest

from instaseg.data.config import DataSettings
from instaseg.errors import ConfigError, DataError
from instaseg.io.arrays import write_array
from instaseg.io.samples import Sample, Source, find_samples
from instaseg.methods.build import MethodSpec
from instaseg.methods.patches.config import PatchesSettings
from instaseg.models.config import ModelSettings
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.stages.scene import check_sample, check_settings, open_roi, open_scene, roi_state
from instaseg.stages.stored import IMAGE_SHAPE


def method(**settings):
    patches = PatchesSettings(patch_shape=(5, 5), **settings)
    return MethodSpec(patches, ModelSettings(), DataSettings()).build()


CODES = method(prediction="codes", code={"decoder_fmaps": [8], "code_units": 9})


@pytest.mark.parametrize(
    ("settings", "of", "message"),
    [
        ({"median": ["z 3"]}, method(), r"\[postprocessing\] median: must be \"xy SIZE\""),
        ({"voronoi": {"head": "F"}}, method(), "must be a head of the method, affs, fgbg; got F"),
        (
            {"voronoi": {"head": "fgbg", "channel": 1}},
            method(),
            "channel: must be below 1, the channels of the head fgbg; got 1",
        ),
        (
            {"voronoi": {"head": "fgbg", "plus": ["C"]}},
            method(),
            "plus: must be a head of the method, affs, fgbg; got C",
        ),
        ({"median": ["xy 3"]}, CODES, "found one that predicts codes"),
        ({"voronoi": {"head": "code"}}, CODES, "found code, which holds codes; use one of fgbg"),
    ],
)
def test_settings_that_do_not_suit_the_method(settings, of, message):
    with pytest.raises(ConfigError, match=message):
        check_settings(PostprocessingSettings(**settings), of, 2)
    check_settings(PostprocessingSettings(voronoi={"head": "fgbg"}), of, 2)


@pytest.fixture
def sample(tmp_path):
    raw = Source(tmp_path / "a.zarr", "volumes/raw")
    write_array(raw.path, raw.key, np.zeros((6, 9), np.uint8))
    return Sample("a", raw, None, None, (2.0, 1.0), ("um", "um"))


def test_a_sample_without_its_region_is_named(sample):
    settings = PostprocessingSettings(roi_key="volumes/roy")
    with pytest.raises(DataError, match="no array 'volumes/roy'"):
        check_sample(sample, settings)
    write_array(sample.raw.path, "volumes/roy", np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(DataError, match=r"has shape \(2, 3, 4\); expected 2 axes"):
        check_sample(sample, settings)


@pytest.mark.parametrize("images", ["x", "."])
def test_the_region_of_an_image_file_is_one_of_a_folder_beside_it(tmp_path, images):
    raw = Source(tmp_path / images / "b.tif")
    write_array(raw.path, raw.key, np.zeros((4, 6), np.uint8))
    sample = Sample("b", raw, None, None, (1.0, 1.0), ("um", "um"))
    settings = PostprocessingSettings(roi_key="roi")
    with pytest.raises(DataError, match=r"sample b: expected an image b in the folder .*roi"):
        check_sample(sample, settings)
    write_array(tmp_path / "roi" / "b.png", "", np.array([[0, 255]], np.uint8))
    check_sample(sample, settings)
    assert open_roi(sample, "roi")[slice(0, 1), slice(0, 6)].tolist() == [[0, 0, 0] + [255] * 3]


def test_the_region_of_a_volume_of_sections_is_one_of_sections(tmp_path):
    settings = DataSettings(ndim=3, stack="z")
    for z in range(3):
        write_array(tmp_path / "x" / "v" / f"s{z}.tif", "", np.zeros((4, 6), np.uint8))
    (sample,) = find_samples(tmp_path, settings)
    with pytest.raises(DataError, match=r"expected the sections of a volume in the folder .*roi/v"):
        open_roi(sample, "roi")
    for z in range(3):
        values = np.full((2, 3), z, np.uint8)
        write_array(tmp_path / "roi" / "v" / f"s{z}.tif", "", values)
    found = open_roi(sample, "roi")
    assert found.shape == (3, 4, 6)
    assert found[slice(0, 3), slice(0, 1), slice(0, 1)].ravel().tolist() == [0, 1, 2]


def test_a_contour_of_pixels_that_are_not_square_is_refused(sample):
    settings = PostprocessingSettings(measure=["circularity"], perimeter="contour")
    with pytest.raises(DataError, match="expected square pixels"):
        check_sample(sample, settings)


def test_another_region_is_another_state(sample):
    settings = PostprocessingSettings(roi_key="volumes/roi")
    write_array(sample.raw.path, "volumes/roi", np.zeros((2, 3), np.uint8))
    before = roi_state(sample, settings)
    write_array(sample.raw.path, "volumes/roi", np.zeros((2, 4), np.uint8))
    assert roi_state(sample, settings) != before
    assert roi_state(sample, PostprocessingSettings()) == ()


def test_the_mask_may_be_a_sum_of_heads_cut_by_otsu(tmp_path):
    prediction = tmp_path / "p.zarr"
    inside = np.array([[0, 0, 51, 255, 255, 255]], np.uint8)
    border = np.array([[0, 51, 204, 0, 0, 0]], np.uint8)
    for name, values in (("affs", inside), ("fgbg", border)):
        write_array(prediction, f"volumes/pred_{name}", np.pad(values, 2)[np.newaxis])
    raw = Source(tmp_path / "a.zarr", "volumes/raw")
    sample = Sample("a", raw, None, None, (1.0, 1.0), ("um", "um"))
    shown = slice(0, 1), slice(0, 6)
    for side, wanted in (("above", [0, 0, 1, 1, 1, 1]), ("below", [1, 1, 0, 0, 0, 0])):
        keys = {"head": "affs", "plus": ["fgbg"], "threshold": "otsu", "side": side}
        settings = PostprocessingSettings(voronoi=keys)
        scene = open_scene(sample, settings, prediction=prediction, method=method())
        assert scene.mask[shown].tolist() == [[bool(n) for n in wanted]]


def test_masks_of_predictions_at_another_size_come_at_that_of_the_image(sample, tmp_path):
    settings = PostprocessingSettings(voronoi={"head": "fgbg", "side": "below", "threshold": 0.4})
    prediction = tmp_path / "p.zarr"
    stored = np.full((1, 3 + 4, 3 + 4), 0.9, np.float16)
    stored[0, 3, 2:4] = 0.1  # inside the margin of 2: row 1, columns 0 and 1
    write_array(prediction, "volumes/pred_fgbg", stored, attributes={IMAGE_SHAPE: [6, 9]})
    scene = open_scene(sample, settings, prediction=prediction, method=method())
    found = scene.mask[slice(0, 6), slice(0, 9)]
    wanted = np.zeros((6, 9), bool)
    wanted[2:4, :6] = True
    assert found.tolist() == wanted.tolist()
    assert scene.spacing == (2.0, 1.0)

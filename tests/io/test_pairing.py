"""Names of images and labels that belong together."""

from pathlib import Path

import pytest

from instaseg.errors import DataError
from instaseg.io.pairing import pair_images


def touch(folder: Path, *names):
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("")
    return folder


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (["a.tif", "b.tif"], ["a.png", "b.png"]),
        (["im1.tif", "im2.tif"], ["lab1.tif", "lab2.tif"]),
        (["w1_a.tif", "w1_b.tif"], ["w1_a-mask.tif", "w1_b-mask.tif"]),
    ],
    ids=["equal stems", "last number", "one name within the other"],
)
def test_partners(tmp_path, images, labels):
    pairs = pair_images(touch(tmp_path / "x", *images), touch(tmp_path / "y", *labels))
    assert [(i.name, x.name) for i, x in pairs] == list(zip(images, labels, strict=True))


def test_a_number_is_no_part_of_a_longer_one(tmp_path):
    x, y = touch(tmp_path / "x", "1.tif"), touch(tmp_path / "y", "10.tif")
    with pytest.raises(DataError, match="have labels of another name"):
        pair_images(x, y)


def test_many_strangers_are_counted(tmp_path):
    x = touch(tmp_path / "x", *(f"a{i}.tif" for i in range(15)))
    y = touch(tmp_path / "y", *(f"b{i + 50}.tif" for i in range(15)))
    with pytest.raises(DataError) as caught:
        pair_images(x, y)
    assert str(caught.value).count("\n  - ") == 11
    assert str(caught.value).endswith("and 5 more")

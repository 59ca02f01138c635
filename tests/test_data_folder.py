# SPDX-License-Identifier: Apache-2.0
"""Image folders: formats, layouts, the cache and files that cannot be read."""

import numpy as np
import pytest
from PIL import Image

from keras_ssl import data


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("KERAS_SSL_CACHE", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "images"
    path.mkdir()
    return path


def one(folder, **options):
    return data.load(f"folder:{folder}", **({"image_size": 8} | options)).images[0]


def plain(color=(10, 20, 30), size=(8, 8)):
    return Image.new("RGB", size, color)


def test_exif_orientation_is_applied(folder):
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise: the bright left half becomes the top
    Image.fromarray(picture).save(folder / "turned.png", exif=exif)
    image = one(folder)
    assert image[:4].min() == 255 and image[4:].max() == 0


def test_sixteen_bit_keeps_its_range(folder):
    values = np.repeat(np.linspace(0, 65535, 8).astype(np.uint16)[None], 8, axis=0)
    Image.fromarray(values).save(folder / "deep.png")
    image = one(folder, channels=1)[0, :, 0]
    assert np.abs(image.astype(int) - np.rint(values[0] / 257).astype(int)).max() == 0
    assert one(folder).shape == (8, 8, 3)


def test_grey_and_palette_become_rgb(folder):
    Image.new("L", (8, 8), 77).save(folder / "grey.png")
    assert np.all(one(folder) == 77)
    (folder / "grey.png").unlink()
    plain((250, 0, 5)).convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "palette.png")
    assert one(folder)[0, 0].tolist() == [250, 0, 5]


def test_transparency_is_laid_on_white(folder):
    Image.new("RGBA", (8, 8), (200, 0, 0, 0)).save(folder / "clear.png")
    assert np.all(one(folder) == 255)
    assert one(folder, channels=4)[0, 0].tolist() == [200, 0, 0, 0]
    assert np.all(one(folder, channels=1) == 255)


def test_float_pixels(folder):
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(folder / "half.tiff")
    assert np.all(one(folder) == 128)
    Image.fromarray(np.full((8, 8), -3.0, np.float32)).save(folder / "half.tiff")
    with pytest.raises(ValueError, match="expected 0..1 or 0..255"):
        one(folder)


def test_short_side_is_resized_and_the_centre_kept(folder):
    picture = np.zeros((16, 48, 3), np.uint8)
    picture[:, 16:32] = 200
    Image.fromarray(picture).save(folder / "wide.png")
    image = one(folder)
    assert image.shape == (8, 8, 3) and np.all(image == 200)


def test_class_folders(folder):
    for name, color in (("b", (0, 0, 9)), ("a", (9, 0, 0))):
        (folder / name / "deeper").mkdir(parents=True)
        for index in range(5):
            plain(color).save(folder / name / "deeper" / f"{index}.png")
    (folder / "a" / "._0.png").write_bytes(b"left by a file manager")
    source = data.load(f"folder:{folder}", image_size=8)
    assert source.class_names == ("a", "b") and source.num_classes == 2
    assert len(source) == 8 and len(source.test) == 2
    assert np.all((source.images[:, 0, 0, 0] == 9) == (source.labels == 0))


def test_flat_folder_has_no_labels(folder):
    for index in range(3):
        plain().save(folder / f"{index}.jpg")
    source = data.load(f"folder:{folder}")
    assert source.images.shape == (3, 64, 64, 3)
    assert source.labels is None and source.test is None


def test_train_and_test_folders(folder):
    for part, name in (("train", "a"), ("train", "b"), ("test", "b")):
        (folder / part / name).mkdir(parents=True)
        plain().save(folder / part / name / "0.png")
    source = data.load(f"folder:{folder}", image_size=8)
    assert source.labels.tolist() == [0, 1] and source.test.labels.tolist() == [1]
    (folder / "test" / "c").mkdir()
    plain().save(folder / "test" / "c" / "0.png")
    with pytest.raises(ValueError, match="classes c, which"):
        data.load(f"folder:{folder}", image_size=8)


def test_corrupt_files_are_named_and_counted(folder):
    for index in range(4):
        plain((index, 0, 0)).save(folder / f"{index}.png")
    (folder / "1.png").write_bytes(b"no picture")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(folder / "4.jpg")
    (folder / "4.jpg").write_bytes((folder / "4.jpg").read_bytes()[:1000])
    for _ in range(2):  # from the files, then from the cache
        with pytest.raises(ValueError, match="2 of 5 images .* 1.png .*4.jpg .*on_corrupt='skip'"):
            data.load(f"folder:{folder}", image_size=8)
        with pytest.warns(UserWarning, match="2 of 5 images"):
            source = data.load(f"folder:{folder}", image_size=8, on_corrupt="skip")
        assert source.skipped == ("1.png", "4.jpg")
        assert source.images[:, 0, 0, 0].tolist() == [0, 2, 3]


def test_cache_is_used_and_follows_the_content(folder, cache, monkeypatch):
    plain((1, 1, 1)).save(folder / "0.png")
    before = sorted(folder.iterdir())
    source = data.load(f"folder:{folder}", image_size=8)
    assert sorted(folder.iterdir()) == before and len(list(cache.glob("folders/*"))) == 1

    def fail(task):
        raise AssertionError("decoded again")

    with monkeypatch.context() as patch:
        patch.setattr("keras_ssl.data._folder._decode", fail)
        again = data.load(f"folder:{folder}", image_size=8)
    assert again.fingerprint == source.fingerprint
    plain((2, 1, 1)).save(folder / "0.png")
    changed = data.load(f"folder:{folder}", image_size=8)
    assert changed.images[0, 0, 0, 0] == 2 and changed.fingerprint != source.fingerprint
    assert len(list(cache.glob("folders/*"))) == 2 and not list(cache.glob("folders/.part*"))


def test_large_caches_stay_on_disk(folder, monkeypatch):
    for index in range(6):
        plain((index, 0, 0)).save(folder / f"{index}.png")
    monkeypatch.setattr("keras_ssl.data._folder._IN_MEMORY_BYTES", 1)
    source = data.load(f"folder:{folder}", image_size=8)
    assert isinstance(source.images, np.memmap)
    batches = list(data.pipeline(source, 2, seed=0))
    assert sorted(int(batch[i, 0, 0, 0]) for batch in batches for i in (0, 1)) == list(range(6))


def test_folder_errors(folder):
    with pytest.raises(FileNotFoundError, match="No folder"):
        data.load(f"folder:{folder}/missing")
    with pytest.raises(ValueError, match="holds no image"):
        data.load(f"folder:{folder}")
    (folder / "a").mkdir()
    (folder / "a" / "bad.png").write_bytes(b"x")
    with (
        pytest.warns(UserWarning, match="1 of 1"),
        pytest.raises(ValueError, match="No image of .* could be read"),
    ):
        data.load(f"folder:{folder}", on_corrupt="skip")
    plain().save(folder / "0.png")
    with pytest.raises(ValueError, match="beside the folders a"):
        data.load(f"folder:{folder}")

"""Patches, digits and photographs: what comes out, and what is refused."""

import gzip
import hashlib
import io
import shutil
import struct
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from convgmm import ConvGMM, datasets
from convgmm.datasets import (
    Patches,
    _bsds500,
    _mnist,
    _patches,
    extract_patches,
    load_bsds500,
    load_mnist,
    load_sample_images,
)
from convgmm.datasets._idx import read_idx

# ---- patches ---------------------------------------------------------------------------------------------------------


def test_patches_are_windows_of_the_images(rng):
    images = [rng.uniform(size=(20, 30)), rng.uniform(size=(9, 7)).astype(np.float32)]
    patches, n_discarded = extract_patches(
        images, (4, 5), 500, remove_mean=False, min_std=0, random_state=0, return_n_discarded=True
    )
    assert patches.shape == (500, 4, 5)
    assert patches.dtype == np.float32
    assert n_discarded == 0
    windows = np.concatenate(
        [np.lib.stride_tricks.sliding_window_view(i.astype(np.float32), (4, 5)).reshape(-1, 20) for i in images]
    )
    known = {window.tobytes() for window in windows}
    assert all(patch.tobytes() in known for patch in patches)


def test_patches_are_uniform_over_all_positions_of_all_images():
    images = [np.arange(12.0), np.arange(100.0, 104.0)]  # 11 and 3 positions for a patch of 2
    patches = extract_patches(images, (2,), 28000, remove_mean=False, min_std=0, random_state=1)
    values, counts = np.unique(patches[:, 0], return_counts=True)
    np.testing.assert_array_equal(values, [*range(11), 100, 101, 102])
    assert np.abs(counts - 2000).max() < 5 * np.sqrt(2000)


def test_flat_patches_are_drawn_again_and_counted(rng):
    image = rng.uniform(size=(64, 64))
    image[:, :32] = 0.5 + 0.001 * image[:, :32]
    patches, n_discarded = extract_patches([image], (4, 4), 5000, random_state=0, return_n_discarded=True)
    assert len(patches) == 5000
    assert patches.std(axis=(1, 2)).min() >= 0.04 * (1 - 1e-5)
    np.testing.assert_allclose(patches.mean(axis=(1, 2)), 0, atol=1e-6)
    flat = np.lib.stride_tricks.sliding_window_view(image, (4, 4)).std(axis=(2, 3)) < 0.04
    assert n_discarded / (5000 + n_discarded) == pytest.approx(flat.mean(), abs=0.02)


def test_patches_repeat_with_the_seed_and_take_any_rank(rng):
    volume = rng.uniform(size=(2, 8, 9, 10))
    a = extract_patches(volume, (3, 3, 3), 50, random_state=4)
    np.testing.assert_array_equal(a, extract_patches(volume, (3, 3, 3), 50, random_state=4))
    assert a.shape == (50, 3, 3, 3)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ([], {}, "empty"),
        ([np.zeros((8, 8, 3))], {}, "grey"),
        (np.ones((8, 8)), {}, r"\[image\]"),
        ([np.ones((3, 8))], {}, "smaller"),
        ([np.full((8, 8), np.nan)], {}, "NaN"),
        ([np.ones((8, 8), complex)], {}, "real"),
        ([np.ones((8, 8))], {}, "too flat"),
        ([np.eye(8)], {"n_patches": 0}, "n_patches"),
        ([np.eye(8)], {"min_std": -1}, "min_std"),
        ([np.eye(8)], {"min_std": np.nan}, "min_std"),
        ([np.eye(8)], {"patch_shape": (0, 4)}, "patch_shape"),
        ([np.eye(8)], {"patch_shape": ()}, "patch_shape"),
    ],
)
def test_bad_images_and_options_are_refused(images, options, message):
    with pytest.raises(ValueError, match=message):
        extract_patches(images, **({"patch_shape": (4, 4), "n_patches": 10} | options))


def test_sample_images():
    images = load_sample_images()
    assert [image.shape for image in images] == [(427, 640)] * 2
    assert all(image.dtype == np.float32 and 0 <= image.min() < image.max() <= 1 for image in images)


# ---- digits ----------------------------------------------------------------------------------------------------------


def idx(values):
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


@pytest.fixture
def digits(tmp_path, rng):
    """Make a folder with a dozen digits in the published format."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    images = rng.integers(0, 256, (12, 28, 28), dtype=np.uint8)
    labels = (np.arange(12) % 10).astype(np.uint8)
    for prefix in ("train", "t10k"):
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return tmp_path, images, labels


def test_digits_from_a_folder_and_from_the_environment(digits, monkeypatch):
    root, images, labels = digits
    loaded, classes = load_mnist("test", root)
    np.testing.assert_allclose(loaded, images / 255, rtol=1e-6)
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(classes, labels)
    monkeypatch.setenv("CONVGMM_DATA", str(root))
    np.testing.assert_array_equal(load_mnist("train")[0], loaded)


def test_unpacked_digits_are_read_too(digits):
    root, images, _ = digits
    packed = root / "mnist" / "train-images-idx3-ubyte.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    assert load_mnist("train", root)[0].shape == images.shape


GOOD = idx(np.zeros((2, 28, 28), np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(GOOD)[:-30], "truncated gzip"),
        (gzip.compress(GOOD)[:20] + b"\xff" * 20 + gzip.compress(GOOD)[40:], "damaged"),
        (GOOD[:-1], "truncated: 1583 bytes"),
        (GOOD[:7], "truncated: 7 bytes"),
        (b"", "truncated"),
        (GOOD + b"\0", "oversized"),
        (b"\x89PNG" + GOOD, "not an IDX file"),
        (bytes([0, 0, 13, 3]) + GOOD[4:], "type 0x0d"),
        (idx(np.zeros(100, np.uint8)), "1 axes where 3"),
        (idx(np.zeros((0, 28, 28), np.uint8)), "empty axis"),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12 + b"\0" * 100, "truncated"),
    ],
)
def test_damaged_idx_files_are_refused_by_name_and_reason(content, message, tmp_path):
    path = tmp_path / "some-images"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_idx(path, 3)
    assert "some-images" in str(error.value)


def test_digits_that_do_not_belong_together_are_refused(digits):
    root, images, _ = digits
    folder = root / "mnist"
    labels = folder / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(idx(np.zeros(5, np.uint8))))
    with pytest.raises(ValueError, match="12 images but .* 5 labels"):
        load_mnist("train", root)
    labels.write_bytes(gzip.compress(idx(np.full(12, 10, np.uint8))))
    with pytest.raises(ValueError, match="label 10"):
        load_mnist("train", root)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images[:, :27].copy())))
    with pytest.raises(ValueError, match="28×28"):
        load_mnist("train", root)
    labels.unlink()
    with pytest.raises(FileNotFoundError, match=r"train-labels-idx1-ubyte\.gz"):
        load_mnist("train", root)


def test_missing_folders_and_unknown_splits_say_what_to_do(tmp_path):
    for load in (load_mnist, load_bsds500):
        with pytest.raises(FileNotFoundError, match="Point it at"):
            load("train", tmp_path)
        with pytest.raises(ValueError, match="split must be one of"):
            load("validation", tmp_path)


class Downloads:
    """Stands in for the network: hands out files of a folder and counts."""

    def __init__(self, source):
        self.source, self.count = source, 0

    def __call__(self, url, known_hash, fname, path):
        path.mkdir(parents=True, exist_ok=True)
        target = path / fname
        if not target.exists():
            self.count += 1
            shutil.copy(self.source / fname, target)
        return str(target)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    import pooch

    monkeypatch.delenv("CONVGMM_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "convgmm"


def test_downloaded_digits_are_checked_and_kept(digits, cache, monkeypatch):
    root, _, _ = digits
    downloads = Downloads(root / "mnist")
    monkeypatch.setattr("pooch.retrieve", downloads)
    with pytest.raises(ValueError, match="damaged and has been removed.*MD5"):
        load_mnist("train")
    assert not list((cache / "mnist").glob("*"))
    for path in (root / "mnist").glob("train*"):
        content = gzip.decompress(path.read_bytes())
        monkeypatch.setitem(_mnist._MD5, path.stem, hashlib.md5(content).hexdigest())
    downloads.count = 0
    assert load_mnist("train")[0].shape == (12, 28, 28)
    assert load_mnist("train")[0].shape == (12, 28, 28)
    assert downloads.count == 2  # one for each file, once


# ---- photographs -----------------------------------------------------------------------------------------------------


@pytest.fixture
def photographs(tmp_path, rng):
    """Make a folder with a few small colour photographs."""
    image = pytest.importorskip("PIL.Image")
    root = tmp_path / "source"
    for split in ("train", "val", "test"):
        (root / "bsds500" / split).mkdir(parents=True)
        for name in ("2", "1"):
            pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
            image.fromarray(pixels).save(root / "bsds500" / split / f"{name}.jpg")
    return root


def test_photographs_are_luma_in_order_of_their_names(photographs):
    image = pytest.importorskip("PIL.Image")
    loaded = load_bsds500("val", photographs)
    assert [i.shape for i in loaded] == [(20, 30)] * 2
    for name, grey in zip(("1", "2"), loaded, strict=True):
        rgb = np.asarray(image.open(photographs / "bsds500" / "val" / f"{name}.jpg").convert("RGB"), dtype=float)
        np.testing.assert_allclose(grey, rgb @ [0.299, 0.587, 0.114] / 255, atol=0.6 / 255)
        assert grey.dtype == np.float32


def test_a_damaged_photograph_is_named(photographs):
    path = photographs / "bsds500" / "train" / "1.jpg"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"1\.jpg is damaged"):
        load_bsds500("train", photographs)
    path.write_text("no photograph")
    with pytest.raises(ValueError, match=r"1\.jpg is damaged or not"):
        load_bsds500("train", photographs)
    shutil.rmtree(path.parent)
    with pytest.raises(FileNotFoundError, match=r"no \.jpg"):
        load_bsds500("train", photographs)


def archive(photographs, target, extra=b""):
    with tarfile.open(target, "w:gz") as tar:
        for path in sorted((photographs / "bsds500").rglob("*.jpg")):
            tar.add(path, f"BSR/BSDS500/data/images/{path.parent.name}/{path.name}")
        outside = tarfile.TarInfo("../outside.jpg")
        tar.addfile(outside, io.BytesIO(b""))
        wrong = tarfile.TarInfo("BSR/BSDS500/data/groundTruth/train/1.mat")
        wrong.size = len(extra)
        tar.addfile(wrong, io.BytesIO(extra))


def test_downloaded_photographs_are_checked_and_kept(photographs, cache, tmp_path, monkeypatch):
    archive(photographs, tmp_path / "BSR_bsds500.tgz", b"other data")
    downloads = Downloads(tmp_path)
    monkeypatch.setattr("pooch.retrieve", downloads)
    with pytest.raises(ValueError, match="not the published ones"):
        load_bsds500("train")
    assert not list(cache.glob("*"))
    root = photographs / "bsds500"
    monkeypatch.setattr(_bsds500, "_SHA256", _bsds500._digest(root, _bsds500._photographs(root)))
    assert len(load_bsds500("train")) == 2
    assert len(load_bsds500("test")) == 2
    assert downloads.count == 2  # the refused one, and one more
    assert sorted(path.name for path in cache.iterdir()) == ["bsds500"]


def test_a_damaged_archive_is_removed(photographs, cache, tmp_path, monkeypatch):
    archive(photographs, tmp_path / "BSR_bsds500.tgz")
    content = (tmp_path / "BSR_bsds500.tgz").read_bytes()
    (tmp_path / "BSR_bsds500.tgz").write_bytes(content[: len(content) // 2])
    monkeypatch.setattr("pooch.retrieve", Downloads(tmp_path))
    with pytest.raises(ValueError, match="damaged and has been removed"):
        load_bsds500("train")
    assert not list(cache.glob("*"))


def test_a_missing_extra_says_which_to_install():
    script = (
        "import sys; sys.modules['PIL'] = sys.modules['PIL.Image'] = sys.modules['matplotlib.figure'] = None\n"
        "import numpy as np, convgmm\n"
        "for call in (convgmm.datasets.load_sample_images,\n"
        "             lambda: convgmm.plotting.plot_weights(convgmm.ConvGMM(1).fit(np.eye(4)))):\n"
        "    try: call()\n"
        "    except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "convgmm[data]" in done.stdout
    assert "convgmm[plot]" in done.stdout


@pytest.mark.data
def test_the_real_digits(data_dir):
    for split, count in (("train", 60000), ("test", 10000)):
        images, labels = load_mnist(split, data_dir)
        assert images.shape == (count, 28, 28)
        assert (images.min(), images.max()) == (0, 1)
        assert np.bincount(labels).min() > count / 12
    for name, expected in _mnist._MD5.items():
        path = data_dir / "mnist" / f"{name}.gz"
        assert hashlib.md5(gzip.decompress(path.read_bytes())).hexdigest() == expected


@pytest.mark.data
def test_the_real_photographs(data_dir):
    assert len(load_bsds500("test", data_dir)) == 200
    images = load_bsds500("train", data_dir)
    assert len(images) == 200
    assert {tuple(sorted(image.shape)) for image in images} == {(321, 481)}
    root = data_dir / "bsds500"
    assert _bsds500._digest(root, _bsds500._photographs(root)) == _bsds500._SHA256
    assert datasets.extract_patches(images, (16, 16), 1000, random_state=0).shape == (1000, 16, 16)


# ---- patches that are drawn again ------------------------------------------------------------------------------------


def test_patches_are_the_same_in_every_pass_and_as_many_as_asked_for(rng, monkeypatch):
    images = [rng.standard_normal((40 + 5 * i, 30)).astype(np.float32) for i in range(6)]
    monkeypatch.setattr(_patches, "_PATCHES_VALUES", 100 * 12)
    monkeypatch.setattr(_patches, "_GROUP_VALUES", 3000)
    source = Patches(images, (4, 3), 950, random_state=3)
    first, second = (list(source) for _ in range(2))
    assert max(len(block) for block in first) <= 100
    assert sum(len(block) for block in first) == 950
    for left, right in zip(first, second, strict=True):
        np.testing.assert_array_equal(left, right)
    drawn = np.concatenate(first)
    assert drawn.shape == (950, 4, 3)
    assert drawn.dtype == np.float32
    assert abs(drawn.mean(axis=(1, 2))).max() < 1e-6
    assert not np.array_equal(drawn, np.concatenate(list(Patches(images, (4, 3), 950, random_state=4))))


def test_patches_are_drawn_from_every_position_alike(monkeypatch):
    images = [np.arange(n_rows * 7.0).reshape(n_rows, 7) + 1000 * i for i, n_rows in enumerate((5, 9, 20))]
    monkeypatch.setattr(_patches, "_GROUP_VALUES", 80)
    source = Patches(images, (2, 2), 60000, remove_mean=False, min_std=0, random_state=0)
    found, counts = np.unique(np.concatenate(list(source))[:, 0, 0], return_counts=True)
    expected = np.concatenate([image[:-1, :-1].ravel() for image in images])
    np.testing.assert_array_equal(found, expected)
    mean = 60000 / len(expected)
    assert abs(counts - mean).max() < 6 * np.sqrt(mean)


def test_patches_of_files_are_those_of_the_images(tmp_path, monkeypatch):
    pillow = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    paths, images = [], []
    for i in range(3):
        pixels = rng.integers(0, 256, (20 + i, 25), dtype=np.uint8)
        paths.append(tmp_path / f"{i}.png")
        pillow.fromarray(pixels).save(paths[-1])
        images.append(pixels.astype(np.float32) / np.float32(255))
    np.save(tmp_path / "3.npy", images[0])
    paths.append(str(tmp_path / "3.npy"))
    images.append(images[0])
    monkeypatch.setattr(_patches, "_GROUP_VALUES", 1100)
    of_files, of_images = (list(Patches(given, (5, 5), 300, random_state=1)) for given in (paths, images))
    for left, right in zip(of_files, of_images, strict=True):
        np.testing.assert_array_equal(left, right)


def test_patches_refuse_what_extract_patches_does(tmp_path):
    for images, options, message in (
        ([], {}, "empty"),
        ([np.ones((9, 9))], {"n_patches": 0}, "n_patches"),
        ([np.ones((9, 9))], {"min_std": -1}, "min_std"),
        ([np.ones((3, 9))], {}, "smaller"),
        ([np.ones((9, 9)), np.full((9, 9), np.nan)], {}, "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            Patches(images, (4, 4), **{"n_patches": 10, **options})
    with pytest.raises(ValueError, match="too flat"):
        list(Patches([np.ones((9, 9))], (4, 4), 10))
    (tmp_path / "not.jpg").write_bytes(b"no photograph")
    with pytest.raises((ValueError, OSError)):
        list(Patches([tmp_path / "not.jpg"], (4, 4), 10))


def test_patches_are_a_source_of_every_fit():
    images = load_sample_images()
    source = Patches(images, (6, 6), 5000, random_state=0)
    whole = np.concatenate(list(source))
    options = {"random_state": 0, "tol": 0, "max_iter": 3}
    with pytest.warns(ConvergenceWarning):
        streamed = ConvGMM(4, **options).fit(source)
    with pytest.warns(ConvergenceWarning):
        held = ConvGMM(4, **options).fit(whole)
    np.testing.assert_allclose(streamed.spectra_, held.spectra_, rtol=1e-4, atol=1e-9)

"""Pictures on the command line: what is read is written as it was, or the error says what to do."""

import numpy as np
import pytest
from PIL import Image

from convgmm import FullGMM, load, picture_file, restore
from convgmm.cli import main
from convgmm.datasets import load_sample_images


@pytest.fixture(scope="module")
def photograph():
    return load_sample_images()[1][100:164, 300:380]


@pytest.fixture(scope="module")
def model(tmp_path_factory, photograph):
    path = tmp_path_factory.mktemp("model") / "model.npz"
    views = np.lib.stride_tricks.sliding_window_view(photograph, (6, 6)).reshape(-1, 36)
    FullGMM(4, means="zero", tol=0.5, random_state=0).fit(views - views.mean(axis=1, keepdims=True)).save(path)
    return str(path)


def write(path, values):
    picture_file.write_picture(path, values)
    return str(path)


@pytest.mark.parametrize("kind", ["grey", "alpha", "colour", "colour and alpha", "16 bits"])
def test_pictures_are_written_as_they_were(kind, photograph, model, tmp_path):
    noisy = photograph + 0.08 * np.random.default_rng(0).standard_normal(photograph.shape)
    grey = np.clip(255 * noisy, 0, 255).astype(np.uint8)
    alpha = np.arange(grey.size, dtype=np.uint8).reshape(grey.shape)
    values = {
        "grey": grey,
        "alpha": np.stack([grey, alpha], axis=-1),
        "colour": np.stack([grey] * 3, axis=-1),
        "colour and alpha": np.stack([grey, grey, grey, alpha], axis=-1),
        "16 bits": np.clip(65535 * noisy, 0, 65535).astype(np.uint16),
    }[kind]
    source = write(tmp_path / "in.png", values)
    np.testing.assert_array_equal(picture_file.read_picture(source), values)
    white = np.iinfo(values.dtype).max
    out = tmp_path / "out.png"
    assert main(["denoise", source, str(out), "--sigma", str(0.08 * white), "--model", model]) == 0
    restored = picture_file.read_picture(out)
    assert restored.dtype == values.dtype
    np.testing.assert_array_equal(restored, restore.denoise(values, 0.08 * white, load(model)))
    if "alpha" in kind:
        np.testing.assert_array_equal(restored[..., -1], alpha)
    first = restored if restored.ndim == 2 else restored[..., 0]
    assert np.std(first / white - photograph) < 0.6 * np.std(noisy - photograph)


def test_holes_are_filled_and_textures_made(photograph, model, tmp_path):
    values = np.rint(255 * photograph).astype(np.uint8)
    missing = np.zeros(values.shape, dtype=np.uint8)
    missing[30:33] = 255
    source, mask = write(tmp_path / "in.png", values), write(tmp_path / "mask.png", missing)
    out = str(tmp_path / "out.png")
    assert main(["inpaint", source, mask, out, "--model", model]) == 0
    filled = picture_file.read_picture(out)
    np.testing.assert_array_equal(filled[missing == 0], values[missing == 0])
    assert np.abs(filled[30:33].astype(float) - values[30:33]).mean() < 20
    assert main(["texture", source, out, "--size", "50", "90", "--periodic"]) == 0
    assert picture_file.read_picture(out).shape == (50, 90)


def test_folders_are_learnt_from(photograph, tmp_path, capsys):
    folder = tmp_path / "photographs"
    folder.mkdir()
    write(folder / "a.png", np.rint(255 * photograph).astype(np.uint8))
    write(folder / "b.png", np.stack([np.rint(255 * photograph).astype(np.uint8)] * 3, axis=-1))
    (folder / "notes.txt").write_text("no picture")
    out = tmp_path / "model.npz"
    options = ["--components", "2", "--patches", "500", "--side", "4"]
    assert main(["fit", str(folder), "--out", str(out), *options]) == 0
    assert load(out).n_features_in_ == 16
    capsys.readouterr()
    assert main(["fit", str(tmp_path), "--out", str(out)]) == 1
    assert "holds no pictures" in capsys.readouterr().err
    assert main(["fit", str(folder), "--out", str(folder)]) == 1
    assert "is a folder" in capsys.readouterr().err
    write(folder / "c.png", np.zeros((3, 9), dtype=np.uint8))
    assert main(["fit", str(folder), "--out", str(out), *options]) == 1
    assert "c.png of shape (3, 9) is smaller" in capsys.readouterr().err


def test_patches_that_are_too_many_to_be_kept_are_drawn_anew(photograph, tmp_path, monkeypatch):
    folder = tmp_path / "photographs"
    folder.mkdir()
    write(folder / "a.png", np.rint(65535 * photograph).astype(np.uint16))
    options = ["--components", "2", "--patches", "500", "--side", "4"]
    assert main(["fit", str(folder), "--out", str(tmp_path / "kept.npz"), *options]) == 0
    monkeypatch.setattr("convgmm.cli._HELD_VALUES", 1)
    assert main(["fit", str(folder), "--out", str(tmp_path / "streamed.npz"), *options]) == 0
    kept, streamed = load(tmp_path / "kept.npz"), load(tmp_path / "streamed.npz")
    assert streamed.lower_bound_ == pytest.approx(kept.lower_bound_, abs=0.5)


def test_palettes_are_looked_up(photograph, tmp_path):
    colours = Image.fromarray(np.stack([np.rint(255 * photograph).astype(np.uint8)] * 3, axis=-1))
    colours.quantize(16).save(tmp_path / "palette.png")
    assert picture_file.read_picture(tmp_path / "palette.png").shape == (*photograph.shape, 3)


def test_errors_are_one_line_and_nothing_is_half_written(photograph, model, tmp_path, capsys):
    values = np.rint(255 * photograph).astype(np.uint8)
    source = write(tmp_path / "in.png", values)
    small = write(tmp_path / "small.png", values[:3])
    (tmp_path / "text.png").write_text("no picture")
    head = bytearray((tmp_path / "in.png").read_bytes())
    head[24:26] = bytes([16, 2])
    (tmp_path / "deep.png").write_bytes(head)
    out = tmp_path / "out.png"
    for arguments, message in [
        (["denoise", str(tmp_path / "none.png"), str(out)], "No such file"),
        (["denoise", str(tmp_path / "text.png"), str(out)], "no picture"),
        (["denoise", str(tmp_path / "deep.png"), str(out)], "16 bits"),
        (["denoise", source, str(tmp_path / "out.mp3")], "no format of pictures"),
        (["denoise", source, str(tmp_path / "nowhere" / "out.png")], "cannot be written"),
        (["denoise", source, str(out), "--sigma", "-1", "--model", model], "sigma must be"),
        (["denoise", small, str(out), "--model", model], "smaller than a patch"),
        (["denoise", source, str(out), "--model", source], "not a saved model"),
        (["inpaint", source, small, str(out), "--model", model], "mask has shape"),
        (["texture", small, str(out)], "at least 16 pixels"),
    ]:
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"in.png", "small.png", "text.png", "deep.png"}
    with pytest.raises(ValueError, match="8 bits"):
        picture_file.write_picture(out, np.zeros((4, 4, 3), dtype=np.uint16))

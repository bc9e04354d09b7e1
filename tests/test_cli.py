"""The command line, as a user meets it, and the experiments behind it."""

import json
import os

import numpy as np
import pytest

from convgmm import ConvGMM, DeepGMM, _core, configuration
from convgmm._core import _choose
from convgmm._fftw import _find
from convgmm.cli import main
from convgmm.experiments import RECIPES, _measures
from convgmm.files import write_atomically
from convgmm.picture_file import read_picture, write_picture

PICTURES = {"spectra.png", "likelihood.png", "weights.png", "components-1.png"}


def test_demo_writes_pictures_and_a_summary(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    for name in ("holiday.png", "components-7.png"):  # somebody's, and a page of an earlier run
        (tmp_path / "out" / name).write_bytes(b"picture")
    assert main(["demo", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert str(tmp_path / "out") in printed
    assert {path.name for path in (tmp_path / "out").iterdir()} == PICTURES | {
        "metrics.json",
        "holiday.png",
        "denoised.png",
    }
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    clean, noisy, denoised = np.split(read_picture(tmp_path / "out" / "denoised.png") / 255, 3, axis=1)
    assert np.std(denoised - clean) < 0.6 * np.std(noisy - clean)
    assert len(metrics["lower_bounds"]) == 60
    assert metrics["n_samples"] == 50_000


def test_info_names_what_is_used(capsys):
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    words = (
        "compiler",
        "processor",
        "environment",
        "openmp",
        "FFTW",
        "libfftw3f",
        "threads",
        "scikit-learn",
        _core.level,
    )
    for word in words:
        assert word in printed
    assert configuration.configuration()["FFTW"].startswith("fftw-3")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reproduce", "bsds16", "--data-dir", "{tmp}"], "holds no folder bsds500"),
        (["reproduce", "bsds16", "--out", "{file}/x"], "cannot be written"),
        (["demo", "--out", "/proc/none"], "cannot be written"),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    filled = [argument.format(tmp=tmp_path, file=tmp_path / "file") for argument in arguments]
    assert main(filled) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_model_that_is_no_mixture_of_patches_is_one_line(tmp_path, capsys):
    deep = DeepGMM([ConvGMM(2, max_iter=2, tol=10)])
    deep.fit(np.random.default_rng(0).standard_normal((40, 4, 4))).save(tmp_path / "deep.npz")
    write_picture(tmp_path / "in.png", np.zeros((9, 9), dtype=np.uint8))
    assert (
        main(["denoise", str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--model", f"{tmp_path}/deep.npz"]) == 1
    )
    error = capsys.readouterr().err
    assert "holds a DeepGMM" in error
    assert error.count("\n") == 1


def test_unknown_names_and_seeds_are_refused(capsys):
    for arguments in (["reproduce", "bsds17"], ["reproduce"], ["demo", "--seed", "-1"], ["demo", "--seed", "x"], []):
        with pytest.raises(SystemExit):
            main(arguments)
    assert "bsds16" in capsys.readouterr().err


def test_an_interrupt_ends_with_130(monkeypatch, tmp_path, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(ConvGMM, "fit", interrupted)
    assert main(["demo", "--out", str(tmp_path)]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_instruction_set_is_chosen_and_forced():
    built = ["v2", "v3", "v4"]
    assert _choose(built, "v3", None) == "v3"
    assert _choose(built, "v4", "") == "v4"
    assert _choose(built, "v4", "v2") == "v2"
    assert _choose(["base"], "base", None) == "base"
    for forced, supported, message in (("v5", "v4", "not a level"), ("v4", "v3", "beyond"), (None, "", "older")):
        with pytest.raises(ImportError, match=message):
            _choose(built, supported, forced)


def test_a_pyfftw_without_libraries_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("ctypes.util.find_library", lambda name: "libfftw3f.so.3" if name == "fftw3f" else None)
    assert _find([tmp_path], "libfftw3f") == "libfftw3f.so.3"  # the system's
    with pytest.raises(ImportError, match="pip install pyfftw"):
        _find([tmp_path], "libfftw3")
    (tmp_path / "libfftw3f_omp-1.so.3").touch()
    (tmp_path / "libfftw3f-1234.so.3.5").touch()
    assert _find([tmp_path], "libfftw3f") == str(tmp_path / "libfftw3f-1234.so.3.5")
    with pytest.raises(ImportError):
        _find([tmp_path], "libfftw3")


def test_overlap_is_the_mean_divergence_to_the_nearest(rng):
    model = ConvGMM(3, remove_mean=False, random_state=0, tol=0.1).fit(
        rng.standard_normal((300, 5)) * rng.choice([1, 4, 20], (300, 1))
    )
    nearest = []
    for S in model.spectra_:
        others = [0.5 * (S / T - np.log(S / T) - 1).sum() for T in model.spectra_ if T is not S and (T != S).any()]
        nearest.append(min(others))
    assert _measures.overlap(model) == pytest.approx(np.mean(nearest))
    shapes = [
        min(
            min(0.5 * (S / (q * T) - np.log(S / (q * T)) - 1).sum() for q in (S / T).mean() * np.linspace(0.9, 1.1, 21))
            for T in model.spectra_
            if (T != S).any()
        )
        for S in model.spectra_
    ]
    assert _measures.overlap(model, of_shapes=True) == pytest.approx(np.mean(shapes))
    assert np.isnan(_measures.overlap(ConvGMM(1).fit(rng.standard_normal((9, 4)))))


def test_class_measures_on_a_table_done_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 1])
    components = np.array([5, 5, 2, 2, 2, 2])
    measures = _measures.class_measures(labels, components)
    assert measures["purity"] == pytest.approx(5 / 6)
    assert measures["class_entropy"] == pytest.approx(4 / 6 * -(0.25 * np.log(0.25) + 0.75 * np.log(0.75)))
    assert _measures.class_measures(labels, labels)["nmi"] == pytest.approx(1)
    assert _measures.class_measures(labels, labels)["ari"] == pytest.approx(1)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "least", "n_pages"),
    [
        ("bsds16", 418.5, 2),
        ("bsds8", 92.0, 2),
        ("mnist32", 626.3, 2),
        ("mnist128", 636.2, 8),
        ("mnist-full32", 2700, 2),
    ],
)
def test_published_experiments(name, least, n_pages, data_dir, tmp_path, capsys):
    """Plain random starts reach 418.8 (half a nat more or less on another draw), 626.24 and 636.06 nats."""
    assert main(["reproduce", name, "--data-dir", str(data_dir), "--out", str(tmp_path)]) == 0
    pictures = {"likelihood.png", "weights.png"} | {f"components-{page}.png" for page in range(1, n_pages + 1)}
    expected = {"lower_bounds", "n_components", "n_samples", "n_discarded", "overlap"}
    expected |= {"seconds", "seconds_per_iteration"}
    if name.startswith("mnist"):
        expected |= {"purity", "nmi", "ari", "class_entropy"}
        pictures |= {"classes.png"}
    if "full" not in name:
        pictures |= {"spectra.png"}
    assert {path.name for path in (tmp_path / name).iterdir()} == pictures | {"metrics.json"}
    metrics = json.loads((tmp_path / name / "metrics.json").read_text())
    assert expected <= metrics.keys()
    assert metrics["n_samples"] == (60_000 if name.startswith("mnist") else 200_000)
    assert metrics["lower_bounds"][-1] > least
    assert len(metrics["lower_bounds"]) == RECIPES[name].layers[0].options["max_iter"]
    assert min(np.diff(metrics["lower_bounds"])) > -1e-3 or metrics["pruned"]
    assert "pictures" in capsys.readouterr().out


@pytest.mark.data
def test_the_third_layer_prunes(data_dir, tmp_path):
    assert main(["reproduce", "deep3", "--data-dir", str(data_dir), "--out", str(tmp_path)]) == 0
    layers = json.loads((tmp_path / "deep3" / "metrics.json").read_text())["layers"]
    assert [layer["n_components_start"] for layer in layers] == [32, 17, 16]
    assert layers[2]["n_components"] < 16
    assert len(layers[2]["pruned"]) == 16 - layers[2]["n_components"]


def test_a_new_file_has_the_usual_permissions_and_a_replaced_one_keeps_its_own(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", b"old")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    (tmp_path / "file").chmod(0o600)
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

"""The experiments and their report, on digits that the test makes."""

import gzip
import json
import re
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

from convgmm.cli import main
from convgmm.experiments import RECIPES, compare

ON_DIGITS = ["mnist32", "deep3"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Make a folder with a few hundred blurred strokes in the format of the digits, in ten classes."""
    rng = np.random.default_rng(5)
    root = tmp_path_factory.mktemp("data")
    (root / "mnist").mkdir()
    for prefix, n in (("train", 900), ("t10k", 300)):
        labels = (np.arange(n) % 10).astype(np.uint8)
        angle = labels * np.pi / 10
        y, x = np.mgrid[-14:14, -14:14]
        distance = x * np.cos(angle)[:, None, None] + y * np.sin(angle)[:, None, None] + rng.normal(0, 2, (n, 1, 1))
        images = np.clip(255 * np.exp(-(distance**2) / 6) + rng.normal(0, 12, (n, 28, 28)), 0, 255).astype(np.uint8)
        for name, values in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
            header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
            (root / "mnist" / f"{name}.gz").write_bytes(gzip.compress(header + values.tobytes()))
    return root


def reproduce_all(digits, out, *more):
    return ["reproduce", "all", "--only", *ON_DIGITS, "--data-dir", str(digits), "--out", str(out), *more]


def figures(path):
    """Return the metrics without times."""
    metrics = json.loads(path.read_text())
    for part in (metrics, *metrics["layers"]):
        for key in ("seconds", "seconds_data", "seconds_per_iteration"):
            part.pop(key, None)
    return metrics


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    assert main(reproduce_all(digits, out)) == 0
    return out


def test_the_report_holds_everything_and_opens_from_disk(finished):
    report = (finished / "report.html").read_text()
    pictures = [path for name in ON_DIGITS for path in (finished / name).glob("*.png")]
    assert report.count("<img ") == report.count('src="data:image/png;base64,') == report.count("<figcaption>")
    assert report.count("<img ") == len(pictures) > 15
    assert not re.search(r'(src|href)="(?!data:|#)', report)
    for text in ("Published:", "Here:", "10 components were left", "purity", "scikit-learn", "seed 0"):
        assert text in report
    assert "±" not in report
    table = compare(finished)
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == ["`mnist32`", "`deep3`"]


def test_every_layer_is_measured(finished):
    layers = figures(finished / "deep3" / "metrics.json")["layers"]
    assert [layer["n_components_start"] for layer in layers] == [32, 17, 16]
    for layer in layers:
        assert 1 <= layer["n_components"] <= layer["n_components_start"]
        assert layer["n_components_start"] - layer["n_components"] == len(layer["pruned"])
        assert 0 < layer["purity"] <= 1
        assert {"nmi", "ari", "class_entropy", "empty_on_test", "overlap"} <= layer.keys()


def test_a_finished_experiment_is_kept_and_a_changed_one_is_not(digits, finished, capsys):
    before = {name: (finished / name / "metrics.json").stat().st_mtime_ns for name in ON_DIGITS}
    (finished / "deep3" / "metrics.json").write_text(
        (finished / "deep3" / "metrics.json").read_text().replace('"seed": 0', '"seed": 5')
    )
    assert main(reproduce_all(digits, finished)) == 0
    after = {name: (finished / name / "metrics.json").stat().st_mtime_ns for name in ON_DIGITS}
    assert before["mnist32"] == after["mnist32"]
    assert before["deep3"] < after["deep3"]
    assert figures(finished / "deep3" / "metrics.json")["seed"] == 0


def test_repeats_add_the_spread(digits, finished):
    assert main(reproduce_all(digits, finished, "--repeats", "2")) == 0
    report = (finished / "report.html").read_text()
    assert "Over 2 seeds" in report
    assert "±" in report
    # The seed of the report itself is not run again.
    assert [path.name for path in (finished / "deep3" / "repeats").iterdir()] == ["seed-1.json"]


@pytest.mark.parametrize("kind", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_an_interrupted_report_resumes_with_the_same_figures(kind, digits, finished, tmp_path, command):
    arguments = ["-m", "convgmm", *reproduce_all(digits, tmp_path)]
    for name in ON_DIGITS[:2]:  # once in the midst of the first, and once of the second
        running = command(*arguments)
        while not (tmp_path / name).exists():
            assert running.process.poll() is None
            time.sleep(0.01)
        running.stop(kind)
        assert running.process.returncode != 0
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, timeout=120)
    for name in ON_DIGITS:
        assert figures(tmp_path / name / "metrics.json") == figures(finished / name / "metrics.json")
    leftovers = [path.name for path in tmp_path.rglob("*") if path.name.startswith(".")]
    assert (tmp_path / "report.html").exists()
    assert kind == signal.SIGKILL or not leftovers


def test_options_that_belong_to_all_are_refused_without_it(digits, tmp_path, capsys):
    assert main(["reproduce", "mnist32", "--repeats", "2", "--out", str(tmp_path)]) == 1
    assert "reproduce all" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["reproduce", "all", "--repeats", "0"])


def test_without_data_it_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    import pooch

    def offline(*arguments, **options):
        raise OSError("no network")

    monkeypatch.delenv("CONVGMM_DATA", raising=False)
    monkeypatch.setattr(pooch, "retrieve", offline)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    for name in ("mnist32", "bsds16"):
        assert main(["reproduce", name, "--out", str(tmp_path)]) == 1
        error = capsys.readouterr().err
        assert "CONVGMM_DATA" in error
        assert "by hand" in error


def test_every_recipe_names_what_was_published():
    assert all(recipe.published and recipe.title for recipe in RECIPES.values())


def test_all_is_what_was_published(digits, tmp_path, monkeypatch):
    ran = []

    monkeypatch.setattr("convgmm.cli.reproduce", lambda name, *given, **options: ran.append(name) or {"name": name})
    monkeypatch.setattr("convgmm.cli._report", lambda *given: None)
    assert main(["reproduce", "all", "--out", str(tmp_path)]) == 0
    assert len(ran) == 9
    assert not any(RECIPES[name].beyond for name in ran)
    assert main(["reproduce", "bsds8-torus", "--out", str(tmp_path)]) == 0
    assert ran[-1] == "bsds8-torus"

"""The open questions: on few digits that the test makes, every answer is written, kept and shown."""

import dataclasses
import json
import re

import numpy as np
import pytest

from convgmm import ConvGMM, DeepGMM, FullGMM
from convgmm.cli import main
from convgmm.experiments import questions
from convgmm.experiments._measures import different_bins, effective_numbers
from convgmm.experiments.questions import _classes, _discrimination, _layers, _page, _samples
from test_experiments import digits  # noqa: F401 - a fixture

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def small(monkeypatch):
    """Make all sizes small."""
    sizes = questions.Sizes(classified=400, discriminated=400, layered=300, sampled=400, phased=300, shown=200, bins=8)
    monkeypatch.setattr(_page, "_SIZES", sizes)
    few = [dataclasses.replace(question, n_seeds=min(2, question.n_seeds)) for question in questions.QUESTIONS]
    monkeypatch.setattr(_page, "QUESTIONS", few)
    for name in ("_SPECTRA", "_FULL", "_SMALL_SPECTRA", "_SMALL_FULL"):
        monkeypatch.setattr(_classes, name, tuple(each | {"n_components": 2} for each in getattr(_classes, name)[:2]))
    monkeypatch.setattr(_discrimination, "_COMPONENTS", 2)
    monkeypatch.setattr(_discrimination, "_BANDWIDTHS", (1.0, 0.1))
    monkeypatch.setattr(_discrimination, "_ROUNDS", 4)
    monkeypatch.setattr(_layers, "_TRAININGS", {"EM": {}, "hard": {"algorithm": "hard"}})
    monkeypatch.setattr(_samples, "RECIPES", {name: _samples.RECIPES[name] for name in ("mnist32", "deep3")})
    _layers._layers.cache_clear()


@pytest.mark.slow
def test_every_question_is_answered_once(small, digits, tmp_path, monkeypatch, capsys):  # noqa: F811
    arguments = ["reproduce", "questions", "--data-dir", str(digits), "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert "questions.html" in capsys.readouterr().out
    page = (tmp_path / "questions" / "questions.html").read_text()
    names = [question.name for question in questions.QUESTIONS]
    assert re.findall(r"<h2 id='([\w-]+)'>\d", page) == names
    pictures = list((tmp_path / "questions").glob("*/*.png"))
    assert page.count('src="data:image/png;base64,') == len(pictures) > 8
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page)
    # A kept answer is not asked for again; one of another seed is.
    asked = []
    monkeypatch.setattr(_page, "_answered", lambda folder, question, *given: asked.append(question.name) or 1 / 0)
    assert main(arguments) == 0
    path = tmp_path / "questions" / "phases" / "answer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 7}))
    with pytest.raises(ZeroDivisionError):
        main(arguments)
    assert asked == ["phases"]


def test_questions_are_run_alone(tmp_path, capsys):
    assert main(["reproduce", "questions", "mnist32", "--out", str(tmp_path)]) == 1
    assert "run alone" in capsys.readouterr().err


def test_bins_tell_other_samples_from_the_same():
    rng = np.random.default_rng(0)
    X, same = rng.standard_normal((2, 3000, 4, 4))
    state = np.random.RandomState(0)
    alike, moved = different_bins(X, (same, same[:2000] + 0.5), 50, state)
    assert alike < 0.15
    assert moved > 0.4


def test_effective_numbers():
    assert effective_numbers(np.array([[5, 5, 5, 5], [9, 0, 0, 0], [2, 2, 0, 0]])) == pytest.approx([4, 1, 2])


def test_samples_go_down_through_the_layers():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 6, 6))
    X[300:] *= 10
    deep = DeepGMM([ConvGMM(2, output="likelihood", random_state=0), FullGMM(2, reg_covar=1e-3, random_state=0)]).fit(X)
    drawn, top = _samples.drawn_through(deep, 2, 400, np.random.RandomState(0))
    assert drawn.shape == (400, 6, 6)
    # The layer above chooses the component that draws.
    loud = drawn.std(axis=(1, 2)) > 3
    assert 0.3 < loud.mean() < 0.7
    assert max(np.mean(loud == (top == k)) for k in range(2)) > 0.95

"""One mixture per class: Bayes' rule, its temperature, and what every estimator promises."""

import pickle

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

import convgmm
from convgmm import ConvGMM, DeepGMM, FullGMM, MixtureClassifier
from convgmm.classifier import best_temperature

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

MIXTURES = {
    "ConvGMM": lambda **options: ConvGMM(2, **({"random_state": 0, "max_iter": 5} | options)),
    "FullGMM": lambda **options: FullGMM(2, **({"random_state": 0, "max_iter": 5, "reg_covar": 1e-2} | options)),
}


def textures(n=400, seed=20, dtype=np.float64):
    """Return images of three kinds, and their kinds."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 6, 6))
    y = rng.integers(0, 3, n)
    X[y == 1] = X[y == 1].cumsum(axis=1)
    X[y == 2] = X[y == 2].cumsum(axis=2)
    return X.astype(dtype), np.array(["white", "rows", "columns"])[y]


@pytest.fixture(params=MIXTURES.values(), ids=MIXTURES)
def make(request):
    return request.param


def learnt(classifier):
    of_mixtures = [array for mixture in classifier.mixtures_ for array in mixture.model_.arrays.values()]
    return [*of_mixtures, classifier.priors_, np.array(classifier.temperature_)]


def assert_same(a, b):
    for left, right in zip(learnt(a), learnt(b), strict=True):
        np.testing.assert_array_equal(left, right)


# ---- what it computes ------------------------------------------------------------------------------------------------


def test_posteriors_are_those_of_bayes(make):
    X, y = textures()
    priors = [0.2, 0.3, 0.5]
    classifier = MixtureClassifier(make(), priors=priors, temperature=3.0).fit(X, y)
    assert list(classifier.classes_) == ["columns", "rows", "white"]
    density = np.stack([make().fit(X[y == c]).score_samples(X) for c in classifier.classes_], axis=1)
    np.testing.assert_array_equal(classifier.log_density(X), density)
    joint = np.log(priors) + density / 3
    np.testing.assert_allclose(
        classifier.predict_proba(X), np.exp(joint - logsumexp(joint, axis=1, keepdims=True)), rtol=1e-10
    )
    np.testing.assert_array_equal(classifier.predict(X), classifier.classes_[joint.argmax(axis=1)])
    assert classifier.score(X, y) > 0.9


def test_priors_are_the_shares_of_the_weights(make):
    X, y = textures()
    weight = np.where(y == "white", 3.0, 1.0)
    classifier = MixtureClassifier(make(), temperature=1.0).fit(X, y, sample_weight=weight)
    expected = [weight[y == c].sum() / weight.sum() for c in classifier.classes_]
    np.testing.assert_allclose(classifier.priors_, expected)


def test_the_temperature_is_that_of_least_log_loss():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, 5000)
    honest = rng.standard_normal((5000, 4)) + 2 * np.eye(4)[label]
    # These are log-densities of unit Gaussians about 2 e_c but for a common term, so that ×2 they are honest.
    temperature, loss = best_temperature(2 * honest * 30, label, np.ones(5000), np.full(4, 0.25), 5000)
    assert temperature == pytest.approx(30, rel=0.1)
    log_p = 2 * honest - logsumexp(2 * honest, axis=1, keepdims=True)
    assert loss == pytest.approx(-log_p[np.arange(5000), label].mean(), rel=1e-2)
    assert best_temperature(honest, label, np.ones(5000), np.full(4, 0.25), 5000)[0] == 1  # never sharper
    # A class that is ruled out can be neither right nor wrong.
    assert np.isfinite(best_temperature(honest, label, np.ones(5000), np.array([0.5, 0.5, 0, 0]), 5000)[0])


def test_few_held_out_samples_without_an_error_leave_doubt():
    density = np.array([[0.0, -500.0], [-500.0, 0.0]])[[0, 1] * 20]
    temperature, _ = best_temperature(density, np.array([0, 1] * 20), np.ones(40), np.array([0.5, 0.5]), 40)
    # The target is 1 − 1/42, which log-odds of log 41 meet.
    assert 500 / temperature == pytest.approx(np.log(41), rel=1e-2)


def test_calibration_makes_overconfident_posteriors_honest():
    X, y = load_digits(return_X_y=True)
    raw = MixtureClassifier(FullGMM(2, reg_covar=1, random_state=0), temperature=1.0).fit(X[:1200], y[:1200])
    calibrated = clone(raw).set_params(temperature="auto").fit(X[:1200], y[:1200])

    def log_loss(classifier):
        return -np.mean(classifier.predict_log_proba(X[1200:])[np.arange(len(X) - 1200), y[1200:]])

    assert calibrated.temperature_ > 1.5
    assert log_loss(calibrated) < 0.8 * log_loss(raw)
    assert calibrated.score(X[1200:], y[1200:]) == pytest.approx(raw.score(X[1200:], y[1200:]), abs=0.01)


def test_divergence_of_single_gaussians_is_theirs():
    X, y = textures(3000)
    classifier = MixtureClassifier(ConvGMM(1, random_state=0), random_state=0).fit(X, y)
    spectra = np.concatenate([mixture.spectra_ for mixture in classifier.mixtures_])
    expected = ConvGMM.from_parameters(np.full(3, 1 / 3), spectra).model_.divergence()
    np.testing.assert_allclose(classifier.divergence(20_000), expected, rtol=0.03, atol=1e-12)


def test_samples_are_of_the_class_that_they_say(make):
    X, y = textures(1000)
    classifier = MixtureClassifier(make(), priors=[0.5, 0.5, 0], random_state=0).fit(X, y)
    drawn, label = classifier.sample(600)
    assert drawn.shape == (600, 6, 6)
    assert set(label) == {"columns", "rows"}
    assert classifier.score(drawn, label) > 0.9
    again, _ = classifier.sample(600)
    np.testing.assert_array_equal(drawn, again)
    with pytest.raises(ValueError, match="n_samples"):
        classifier.sample(0)


# ---- the contract ----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_scikit_learn_checks():
    results = check_estimator(MixtureClassifier(FullGMM(1)), on_skip=None)
    assert len(results) > 50
    skipped = [r["check_name"] for r in results if r["status"] != "passed"]
    assert skipped in ([], ["check_array_api_input"])


def test_pipelines_and_searches(make):
    X, y = textures(200)
    flat = X.reshape(200, -1)
    assert make_pipeline("passthrough", MixtureClassifier(make())).fit(flat, y).predict(flat).shape == (200,)
    search = GridSearchCV(
        MixtureClassifier(make(), temperature=1.0), {"mixture__n_components": [1, 2]}, cv=2, error_score="raise"
    )
    assert search.fit(X, y).best_score_ > 0.6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_bits_for_any_number_of_threads_and_order(make, dtype):
    X, y = textures(1500, dtype=dtype)
    fits = [MixtureClassifier(make(n_threads=n)).fit(X, y) for n in (1, 2)]
    assert_same(*fits)
    np.testing.assert_array_equal(fits[0].predict_proba(X), fits[1].predict_proba(X))
    assert fits[0].log_density(X).dtype == dtype
    assert fits[0].predict_proba(X).dtype == np.float64
    order = np.random.default_rng(0).permutation(len(X))
    shuffled = MixtureClassifier(make()).fit(X[order], y[order])
    for left, right in zip(learnt(shuffled), learnt(fits[0]), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3 if dtype == np.float32 else 1e-7, atol=1e-6)


def test_a_weight_of_two_is_the_sample_twice(make):
    X, y = textures(150)
    weight = np.random.default_rng(0).integers(0, 4, len(X))
    repeated = np.repeat(np.arange(len(X)), weight)
    weighted = MixtureClassifier(make()).fit(X, y, sample_weight=weight)
    plain = MixtureClassifier(make()).fit(X[repeated], y[repeated])
    scaled = MixtureClassifier(make()).fit(X, y, sample_weight=weight * (1e308 / 3))
    assert not np.isnan(weighted.held_out_log_loss_)
    for left, right, other in zip(learnt(weighted), learnt(plain), learnt(scaled), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(left, other, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("labels", [str, int, object], ids=["text", "integers", "objects"])
@pytest.mark.parametrize("way", ["pickle", "file"])
def test_a_kept_classifier_answers_to_the_last_bit(make, way, labels, tmp_path):
    X, y = textures()
    y = np.unique(y, return_inverse=True)[1] if labels is int else y.astype(labels)
    classifier = MixtureClassifier(make(), random_state=3).fit(X, y)
    if way == "pickle":
        kept = pickle.loads(pickle.dumps(classifier))
    else:
        classifier.save(tmp_path / "classifier")
        kept = convgmm.load(tmp_path / "classifier")
    assert_same(kept, classifier)
    np.testing.assert_array_equal(kept.predict_proba(X), classifier.predict_proba(X))
    assert kept.predict(X).dtype == classifier.predict(X).dtype
    assert repr(kept) == repr(classifier)
    assert kept.held_out_log_loss_ == classifier.held_out_log_loss_
    np.testing.assert_array_equal(kept.sample(5)[0], classifier.sample(5)[0])
    assert_same(kept.fit(X, y), classifier)


def test_nothing_of_the_training_data_is_kept(make):
    X, y = textures(3000)
    many, few = (MixtureClassifier(make()).fit(X[:n], y[:n]) for n in (3000, 300))
    assert len(pickle.dumps(many)) < len(pickle.dumps(few)) + 1000


def test_frames_name_their_features():
    pandas = pytest.importorskip("pandas")
    X, y = textures()
    frame = pandas.DataFrame(X[:, 0], columns=[f"t{i}" for i in range(6)])
    classifier = MixtureClassifier(FullGMM(1)).fit(frame, pandas.Series(y))
    assert list(classifier.feature_names_in_) == list(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        classifier.predict(frame[frame.columns[::-1]])


def test_a_sample_beyond_float32_has_a_class(make):
    X, y = textures(dtype=np.float32)
    classifier = MixtureClassifier(make()).fit(X, y)
    far = X.copy()
    far[1] *= np.float32(1e25)
    found = classifier.predict_proba(far)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(np.delete(found, 1, axis=0), np.delete(classifier.predict_proba(X), 1, axis=0))


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priors": [0.5, 0.5]}, r"priors has shape \(2,\)"),
        ({"priors": [0.5, 0.5, 0.5]}, "priors must sum to 1"),
        ({"priors": [0.5, 0.5, 0.0], "refine": "mmi"}, "refine needs each above 0"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": "best"}, "temperature"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"random_state": "seed"}, "random_state"),
    ],
    ids=["too few priors", "priors that sum to 1.5", "prior 0", "temperature", "word", "fraction", "seed"],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MixtureClassifier(FullGMM(1), **options).fit(*textures())


def test_bad_data_is_refused_and_the_classifier_stays_what_it_was(make):
    X, y = textures()
    with pytest.raises(NotFittedError):
        MixtureClassifier(make()).predict(X)
    classifier = MixtureClassifier(make()).fit(X, y)
    before = classifier.predict_proba(X)
    spoilt = X.copy()
    spoilt[3] = np.nan
    for given, error, message in (
        ((spoilt, y), ValueError, "NaN"),
        ((X, y[:-1]), ValueError, "inconsistent"),
        ((X, np.linspace(0, 1, len(X))), ValueError, "continuous"),
        ((X, y, np.zeros(len(X))), ValueError, "zero"),
        ((X[:4], ["a", "a", "a", "b"]), ValueError, "class b: n_components=2"),
    ):
        with pytest.raises(error, match=message):
            classifier.fit(*given)
        np.testing.assert_array_equal(classifier.predict_proba(X), before)
    for other in (X[:, :1], X.reshape(len(X), 4, 9)):
        with pytest.raises(ValueError, match=r"shape|features"):
            classifier.predict(other)


@pytest.mark.parametrize("mixture", [None, FullGMM, "FullGMM", DeepGMM([FullGMM(2)])])
def test_what_is_no_mixture_is_refused(mixture):
    with pytest.raises(TypeError, match="mixture must be"):
        MixtureClassifier(mixture).fit(*textures())


def test_an_interrupt_leaves_the_classifier_what_it_was(make, monkeypatch):
    X, y = textures()
    classifier = MixtureClassifier(make()).fit(X, y)
    before = classifier.predict_proba(X)
    fit, calls = FullGMM.fit, []

    def interrupted(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return fit(self, *arguments, **options)

    monkeypatch.setattr("convgmm.estimator.Mixture.fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(X[:200] * 2, y[:200])
    np.testing.assert_array_equal(classifier.predict_proba(X), before)


def test_an_error_says_that_samples_were_held_out():
    X = np.random.default_rng(0).standard_normal((20, 3))
    with pytest.raises(ValueError, match=r"class 0 \(1 of its samples held out; a smaller validation_fraction"):
        MixtureClassifier(FullGMM(10, reg_covar=1)).fit(X, np.repeat([0, 1], 10))

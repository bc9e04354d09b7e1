"""Extended Baum–Welch: its criterion and its step against float64 NumPy, and that the criterion never falls."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits

import convgmm
import oracle
from convgmm import ConvGMM, FullGMM, MixtureClassifier, TorusGMM
from convgmm.discriminative import Contest, Rival
from convgmm.source import Block

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

MIXTURES = {
    "ConvGMM": ConvGMM(2, remove_mean=False, random_state=0, max_iter=5),
    "FullGMM": FullGMM(2, reg_covar=0.5, random_state=0, max_iter=5),
    "TorusGMM": TorusGMM(2, torus_shape=(10, 10), random_state=0, max_iter=5),
}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X.reshape(-1, 8, 8), y


@pytest.fixture(params=MIXTURES.values(), ids=MIXTURES)
def mixture(request):
    return request.param


def contest(mixtures, X, y, exponent=0.2, smoothing=0.0, weight=None):
    models = [mixture.model_ for mixture in mixtures]
    family, J = models[0].family, len(models)
    rivals = [Rival(family.from_arrays(model.arrays, model.frame, 0), model.frame) for model in models]
    reading = family.read(Block(np.ascontiguousarray(X.reshape(len(X), -1))), 0)
    weight = np.ones(len(X)) if weight is None else weight
    return Contest(family, reading, np.eye(J)[y], weight, np.log(np.full(J, 1 / J)), exponent, smoothing, 0), rivals


def of_classes(mixture, X, y, n_classes=3):
    X, y = X[y < n_classes], y[y < n_classes]
    return [clone(mixture).fit(X[y == c]) for c in range(n_classes)], X, y


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_criterion_and_step_are_those_of_the_formula(digits, smoothing):
    mixtures, X, y = of_classes(MIXTURES["ConvGMM"], *digits)
    given, rivals = contest(mixtures, X, y, smoothing=smoothing)
    reached = given.assess(rivals)
    density = np.stack([mixture.score_samples(X) for mixture in mixtures], axis=1)
    value, counts = oracle.mutual_information_counts((np.log(np.full(3, 1 / 3)), density), y, 0.2, smoothing)
    assert reached.criterion == pytest.approx(value, rel=1e-10)
    sums = given._sums(reached)
    e = 5.0
    P = oracle.periodograms(X, False)
    for c, mixture in enumerate(mixtures):
        gamma = mixture.predict_proba(X) * counts[:, [c]]
        numerator, denominator = np.maximum(gamma, 0), np.maximum(-gamma, 0)
        E = e * (numerator + denominator).sum(axis=0)
        S = mixture.spectra_.reshape(2, -1)
        expected = (gamma.T @ P + E[:, None] * S) / (gamma.sum(axis=0) + E)[:, None]
        moved = given._moved(rivals[c], *sums[c], e)
        found = given.family.to_arrays(moved.parameters, moved.frame, 0)
        np.testing.assert_allclose(found["spectra"].reshape(2, -1), np.maximum(expected, moved.frame.floor), rtol=1e-4)
        assert found["weights"].sum() == pytest.approx(1)


def test_the_counts_are_the_gradient(digits):
    mixtures, X, y = of_classes(MIXTURES["ConvGMM"], *digits)
    given, rivals = contest(mixtures, X, y)
    numerator, denominator = given._sums(given.assess(rivals))[1]
    S = rivals[1].parameters.spectra
    m = given.family.basis.multiplicities
    # ∂F/∂log S = κ/n · ½ m (Σ counts P / S − Σ counts)
    net = (numerator.power - denominator.power) / S - (numerator.responsibility - denominator.responsibility)[:, None]
    expected = given.exponent / len(X) * 0.5 * m * net
    for k, d in ((0, 3), (1, 10), (1, 20)):
        values = []
        for step in (-1e-4, 1e-4):
            spectra = S.copy()
            spectra[k, d] *= np.exp(step)
            moved = Rival(type(rivals[1].parameters)(rivals[1].parameters.weights, spectra), rivals[1].frame)
            values.append(given.assess([rivals[0], moved, rivals[2]]).criterion)
        assert (values[1] - values[0]) / 2e-4 == pytest.approx(expected[k, d], rel=1e-2, abs=1e-8)


def test_what_is_expected_of_parameters_is_made_into_them_again(mixture, digits):
    (fitted,), _, _ = of_classes(mixture, *digits, n_classes=1)
    model = fitted.model_
    family, parameters = model.family, model.family.from_arrays(model.arrays, model.frame, 0)
    again = family.maximize(family.expected(parameters, np.array([3.0, 5.0]), model.frame), parameters, model.frame)
    assert again.weights == pytest.approx([3 / 8, 5 / 8])
    again = family.to_arrays(again.with_weights(parameters.weights), model.frame, 0)
    for name, array in family.to_arrays(parameters, model.frame, 0).items():
        np.testing.assert_allclose(again[name], array, rtol=1e-6, atol=1e-8 * np.abs(array).max())


@pytest.mark.parametrize("smoothing", [0.0, 0.05])
def test_the_criterion_never_falls(mixture, digits, smoothing):
    mixtures, X, y = of_classes(mixture, *digits)
    weight = np.random.default_rng(0).uniform(0, 2, len(X))
    given, rivals = contest(mixtures, X, y, exponent=0.05, smoothing=smoothing, weight=weight)
    rounds = list(given.rounds(rivals, 8))
    criteria = [reached.criterion for reached in rounds]
    assert len(criteria) > 3
    assert (np.diff(criteria) > 0).all()
    for reached in rounds:
        assert given.assess(reached.rivals).criterion == reached.criterion
        assert all(rival.parameters.weights.sum() == pytest.approx(1) for rival in reached.rivals)


def test_refinement_lowers_the_loss_and_is_stopped_by_held_out_samples(digits):
    X, y = digits
    plain = MixtureClassifier(MIXTURES["ConvGMM"]).fit(X[:1300], y[:1300])
    refined = MixtureClassifier(MIXTURES["ConvGMM"], refine="mmi", refine_max_iter=40).fit(X[:1300], y[:1300])
    assert plain.criterion_.shape == (0,)
    assert (np.diff(refined.criterion_) > 0).all()
    assert 3 < len(refined.criterion_) <= 41
    assert refined.held_out_log_loss_ < 0.9 * plain.held_out_log_loss_
    assert refined.score(X[:1300], y[:1300]) > plain.score(X[:1300], y[:1300]) + 0.05
    rows = np.arange(len(X) - 1300)
    loss = [-classifier.predict_log_proba(X[1300:])[rows, y[1300:]].mean() for classifier in (plain, refined)]
    assert loss[1] < 0.98 * loss[0]
    # A patience of one ends at the first round that does not help.
    hasty = MixtureClassifier(MIXTURES["ConvGMM"], refine="mmi", refine_max_iter=40, refine_patience=1)
    assert len(hasty.fit(X[:1300], y[:1300]).criterion_) <= len(refined.criterion_)


def test_refined_classifiers_keep_the_contract(digits, tmp_path):
    X, y = digits[0][:600], digits[1][:600]
    make = lambda n: MixtureClassifier(  # noqa: E731
        ConvGMM(2, random_state=0, max_iter=5, n_threads=n), refine="mmi", refine_max_iter=4, refine_smoothing=0.01
    )
    one, two = make(1).fit(X, y), make(2).fit(X, y)
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))
    np.testing.assert_array_equal(one.criterion_, two.criterion_)
    one.save(tmp_path / "classifier")
    for kept in (convgmm.load(tmp_path / "classifier"), pickle.loads(pickle.dumps(one))):
        np.testing.assert_array_equal(kept.predict_proba(X), one.predict_proba(X))
        np.testing.assert_array_equal(kept.criterion_, one.criterion_)
    weight = np.random.default_rng(0).integers(0, 3, len(X))
    rows = np.repeat(np.arange(len(X)), weight)
    weighted, repeated = make(None).fit(X, y, sample_weight=weight), make(None).fit(X[rows], y[rows])
    np.testing.assert_allclose(weighted.criterion_, repeated.criterion_, rtol=1e-4)
    few = make(None).fit(X[:40], y[:40])  # none are held out
    assert np.isnan(few.held_out_log_loss_)
    assert len(few.criterion_) > 1
    assert few.temperature_ == 1
    with pytest.raises(ValueError, match="refine"):
        make(None).set_params(refine="mpe").fit(X, y)


def test_a_step_too_large_for_the_weights_of_scales_is_made_smaller(digits, monkeypatch):
    mixture = FullGMM(1, scales=(0.5, 1, 2), means="zero", reg_covar=0.5, random_state=0, max_iter=5)
    mixtures, X, y = of_classes(mixture, *digits)
    given, rivals = contest(mixtures, X, y)
    moved, steps = Contest._moved, []

    def counted(self, rival, numerator, denominator, e):
        steps.append(e)
        if e < 4:
            raise ValueError("weights of scales below 0")
        return moved(self, rival, numerator, denominator, e)

    monkeypatch.setattr(Contest, "_moved", counted)
    reached = list(given.rounds(rivals, 1))
    assert len(reached) == 2
    assert min(steps) < 4 <= max(steps)

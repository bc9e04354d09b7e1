"""The EM of the convolutional mixture against the float64 oracle, and what EM promises."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import oracle
from conftest import trials
from convgmm import ConvGMM, LikelihoodWarning, _core
from convgmm.basis import Fourier

SHAPES = [(15,), (16,), (6, 6), (7, 5), (16, 16), (3, 4, 5), (4, 4, 4)]


def correlated(rng, n, shape, dtype=np.float64):
    """Return samples of three kinds: rough, smooth along the last axis, and smooth with more power."""
    x = rng.standard_normal((n, *shape))
    x[n // 3 :] = x[n // 3 :].cumsum(axis=-1) * 0.5
    x[2 * n // 3 :] *= 3
    return x.astype(dtype)


def fit_quietly(model, X, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, **options)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("remove_mean", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_twenty_iterations_match_the_oracle(shape, remove_mean, dtype, tolerance, rng):
    K = 5
    X = correlated(rng, 700, shape, dtype)
    spectra = oracle.symmetric_spectra(rng, K, shape)
    weights = np.full(K, 1 / K)
    course = oracle.em(X, weights, spectra, remove_mean=remove_mean, n_iter=20, reg_spectrum=1e-6)
    model = ConvGMM(
        K,
        patch_shape=shape,
        remove_mean=remove_mean,
        weights_init=weights,
        spectra_init=spectra,
        tol=0,
        max_iter=20,
        prune_threshold=0,
    )
    fit_quietly(model, X.reshape(700, -1))
    np.testing.assert_allclose(model.lower_bounds_, course.lower_bounds, rtol=tolerance)
    if dtype == np.float64:  # in float32, EM magnifies rounding along directions in which the likelihood is flat
        np.testing.assert_allclose(model.weights_, course.weights, rtol=1e-8)
        np.testing.assert_allclose(model.spectra_.reshape(K, -1), course.spectra, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("shape", [(15,), (7, 5), (16, 16), (3, 4, 5)], ids=str)
@pytest.mark.parametrize("remove_mean", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_ten_iterations_with_cosines_match_the_oracle(shape, remove_mean, dtype, tolerance, rng):
    X = correlated(rng, 700, shape, dtype)
    spectra = rng.uniform(0.5, 2, (4, *shape))
    weights = np.full(4, 0.25)
    course = oracle.em(X, weights, spectra, remove_mean=remove_mean, n_iter=10, reg_spectrum=1e-6, basis="dct")
    options = {"weights_init": weights, "spectra_init": spectra, "tol": 0, "max_iter": 10, "prune_threshold": 0}
    model = ConvGMM(4, basis="dct", patch_shape=shape, remove_mean=remove_mean, **options)
    fit_quietly(model, X.reshape(700, -1))
    np.testing.assert_allclose(model.lower_bounds_, course.lower_bounds, rtol=tolerance)
    if dtype == np.float64:
        np.testing.assert_allclose(model.spectra_.reshape(4, -1), course.spectra, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("n_components", [1, 2, 15, 16, 17, 32, 33, 70])
@pytest.mark.parametrize("shape", [(5,), (16, 16), (17, 19)], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-5), (np.float64, 1e-12)])
def test_one_step_matches_the_oracle(n_components, shape, dtype, tolerance, rng):
    """Odd numbers of samples, components and coefficients reach every tail of the kernels."""
    n = 403
    X = correlated(rng, n, shape, dtype)
    half = Fourier(shape, True)
    planes = oracle.symmetric_spectra(rng, n_components, shape)
    weights = rng.dirichlet(np.ones(n_components))
    sample_weight = rng.uniform(0, 2, n)
    P = half.coefficients(X.reshape(n, -1), 1)
    spectra = half.from_plane(planes)
    normalisers = -0.5 * ((np.log(spectra) + np.log(2 * np.pi)) @ half.multiplicities)
    constants = np.log(weights) + normalisers
    share, power, log_likelihood = _core.spectral_expect(P, half.multiplicities, spectra, constants, sample_weight, 2)
    plane = oracle.periodograms(X, True)
    joint = oracle.log_density(plane, planes) + np.log(weights)
    largest = joint.max(axis=1, keepdims=True)
    total = largest + np.log(np.exp(joint - largest).sum(axis=1, keepdims=True))
    gamma = np.exp(joint - total) * sample_weight[:, None]
    np.testing.assert_allclose(log_likelihood, (sample_weight[:, None] * total).sum(), rtol=tolerance)
    np.testing.assert_allclose(share, gamma.sum(axis=0), rtol=tolerance * 50, atol=tolerance * n)
    expected = half.from_plane(gamma.T @ np.nan_to_num(plane))
    np.testing.assert_allclose(power, expected, rtol=tolerance * 50, atol=tolerance * expected.max())
    density = _core.spectral_log_density(P, half.multiplicities, spectra, normalisers, 2)
    assert density.dtype == dtype
    scale = np.abs(joint).max()
    np.testing.assert_allclose(density, oracle.log_density(plane, planes), rtol=tolerance, atol=tolerance * scale)
    responsibilities, log_p = _core.spectral_posterior(P, half.multiplicities, spectra, constants, 2)
    np.testing.assert_allclose(log_p, total[:, 0], rtol=tolerance, atol=tolerance * scale)
    np.testing.assert_allclose(responsibilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(responsibilities, np.exp(joint - total), atol=tolerance * scale)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_bits_for_any_number_of_threads(dtype, rng):
    X = correlated(rng, 3001, (8, 7), dtype)
    fits = [
        fit_quietly(ConvGMM(6, tol=0, max_iter=8, random_state=3, n_threads=threads), X) for threads in (1, 2, 3, 5)
    ]
    for other in fits[1:]:
        np.testing.assert_array_equal(other.lower_bounds_, fits[0].lower_bounds_)
        np.testing.assert_array_equal(other.spectra_, fits[0].spectra_)
        np.testing.assert_array_equal(other.predict_proba(X), fits[0].predict_proba(X))


@pytest.mark.parametrize("trial", trials(100, 1000))
def test_the_likelihood_never_falls(trial):
    """Random problems of every kind: neither a fall beyond rounding, nor a warning of one."""
    rng = np.random.default_rng([7, trial])
    rank = rng.integers(1, 4)
    shape = tuple(int(s) for s in rng.integers(2, {1: 40, 2: 9, 3: 5}[int(rank)], rank))
    K = int(rng.integers(1, 7))
    n = int(rng.integers(max(K, 2), 60 * K + 2))
    dtype = (np.float32, np.float64)[trial % 2]
    remove_mean = bool(rng.integers(2))
    X = rng.standard_normal((n, *shape)) * 10.0 ** rng.uniform(-4, 4)
    X *= 10.0 ** rng.normal(0, rng.uniform(0, 2), (n,) + (1,) * int(rank))
    if rng.integers(2):
        X = X.cumsum(axis=-1)
    if not remove_mean:
        X += rng.normal() * X.std()
    if rng.integers(4) == 0:
        X[rng.integers(n)] = 0  # a constant sample
    weight = None if rng.integers(2) else rng.exponential(size=n)
    model = ConvGMM(
        K,
        patch_shape=shape,
        remove_mean=remove_mean,
        init=("kmeans++", "random")[rng.integers(2)],
        tol=0,
        max_iter=15,
        prune_threshold=0.0 if rng.integers(2) else 0.02,
        random_state=trial,
        n_threads=1,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message=".*samples are constant")
        warnings.simplefilter("error", LikelihoodWarning)
        model.fit(X.reshape(n, -1).astype(dtype), sample_weight=weight)
    exempt = {pruning.iteration for pruning in model.pruned_}
    gains = np.diff(model.lower_bounds_)
    scale = np.abs(model.lower_bounds_).max() + np.prod(shape)
    allowed = 8 * np.finfo(dtype).eps * scale + (1e-6 if dtype == np.float32 else 1e-13)
    for i, gain in enumerate(gains):
        assert gain >= -allowed or i in exempt, (i, gain, allowed)
    assert np.isfinite(model.spectra_).all()


def test_lower_bounds_belong_to_the_parameters_that_each_step_started_from(rng):
    X = correlated(rng, 300, (8,))
    start = oracle.symmetric_spectra(rng, 2, (8,))
    model = fit_quietly(ConvGMM(2, spectra_init=start, tol=0, max_iter=3), X)
    assert len(model.lower_bounds_) == model.n_iter_ == 3
    assert model.lower_bound_ == model.lower_bounds_[-1]
    weights = np.array([0.5, 0.5])
    first = oracle.log_density(oracle.periodograms(X, True), start) + np.log(weights)
    np.testing.assert_allclose(model.lower_bounds_[0], np.logaddexp(*first.T).mean())
    longer = fit_quietly(ConvGMM(2, spectra_init=start, tol=0, max_iter=4), X)
    np.testing.assert_allclose(model.score(X), longer.lower_bounds_[3])


def test_stops_when_the_gain_is_small_and_tol_zero_never_stops(rng):
    X = correlated(rng, 400, (12,))
    model = ConvGMM(2, tol=1e-3, max_iter=500, random_state=0).fit(X)
    gains = np.diff(model.lower_bounds_)
    assert model.converged_
    assert 0 <= gains[-1] < 1e-3
    assert (gains[:-1] >= 1e-3).all()
    with pytest.warns(ConvergenceWarning):
        forever = ConvGMM(2, tol=0, max_iter=60, random_state=0).fit(X)
    assert forever.n_iter_ == 60
    assert not forever.converged_


def test_empty_components_are_pruned_and_recorded(rng):
    X = correlated(rng, 900, (8, 8))
    spectra = oracle.symmetric_spectra(rng, 4, (8, 8))
    spectra[2] *= 1e9  # nobody's
    model = fit_quietly(ConvGMM(4, spectra_init=spectra, tol=0, max_iter=10), X)
    assert model.n_components_ == 3
    assert [(p.iteration, p.index) for p in model.pruned_] == [(0, 2)]
    assert model.pruned_[0].share < 1e-4
    np.testing.assert_allclose(model.weights_.sum(), 1)
    kept = fit_quietly(ConvGMM(4, spectra_init=spectra, tol=0, max_iter=10, prune_threshold=0), X)
    assert kept.n_components_ == 4
    assert kept.weights_[2] == 0
    np.testing.assert_allclose(kept.spectra_[2][1:], spectra[2][1:])  # keeps its parameters at weight 0
    np.testing.assert_allclose(kept.score(X), model.score(X))


def test_the_last_component_is_never_pruned(rng):
    model = fit_quietly(ConvGMM(3, prune_threshold=0.9, tol=0, max_iter=5, random_state=0), correlated(rng, 90, (6,)))
    assert model.n_components_ == 1


def test_a_weight_of_two_is_the_sample_twice_in_any_order(rng):
    X = correlated(rng, 200, (5, 5))
    weight = rng.integers(0, 4, 200)
    repeated = np.repeat(X, weight, axis=0)
    rng.shuffle(repeated)
    options = {"tol": 0, "max_iter": 12, "random_state": 5}
    weighted = fit_quietly(ConvGMM(4, **options), X, sample_weight=weight)
    plain = fit_quietly(ConvGMM(4, **options), repeated)
    np.testing.assert_allclose(weighted.lower_bounds_, plain.lower_bounds_, rtol=1e-9)
    np.testing.assert_allclose(weighted.spectra_, plain.spectra_, rtol=1e-6)


def test_the_floor_holds_updates_but_not_a_given_start(rng):
    X = correlated(rng, 100, (16,))
    X[:50] = np.cos(2 * np.pi * np.arange(16) / 16) * rng.standard_normal((50, 1))  # power at one frequency alone
    start = np.full((2, 16), 1e-12)
    start *= [[1], [1e12]]
    model = fit_quietly(ConvGMM(2, spectra_init=start, tol=0, max_iter=3), X)  # a lawful fall, which must not warn
    joint = oracle.log_density(oracle.periodograms(X, True), start) + np.log(0.5)
    np.testing.assert_allclose(model.lower_bounds_[0], np.logaddexp(*joint.T).mean())
    fitted = fit_quietly(ConvGMM(2, tol=0, max_iter=20, random_state=0, reg_spectrum=1e-3), X)
    power = (X - X.mean(axis=1, keepdims=True)).var(axis=1).mean() * 16 / 15
    np.testing.assert_allclose(fitted.spectra_[:, 1:].min(), 1e-3 * power, rtol=1e-6)


def test_a_start_below_the_floor_may_fall_in_its_first_step(rng):
    X = np.cos(2 * np.pi * np.arange(16) / 16) * rng.standard_normal((200, 1))
    model = fit_quietly(ConvGMM(1, reg_spectrum=1e-9, max_iter=3, warm_start=True), X)
    with warnings.catch_warnings():
        warnings.simplefilter("error", LikelihoodWarning)
        fit_quietly(model.set_params(reg_spectrum=1e-3, tol=0), X)
    assert model.lower_bounds_[1] < model.lower_bounds_[0]


@pytest.mark.parametrize("scale", [1e-300, 1e-46, 1e39])
def test_only_ratios_of_weights_count(scale, rng):
    X = correlated(rng, 200, (8,), np.float32)
    weight = rng.uniform(0.5, 1, 200)
    plain = fit_quietly(ConvGMM(2, random_state=0, tol=0, max_iter=5), X, sample_weight=weight)
    scaled = fit_quietly(ConvGMM(2, random_state=0, tol=0, max_iter=5), X, sample_weight=weight * scale)
    np.testing.assert_allclose(scaled.lower_bounds_, plain.lower_bounds_, rtol=1e-6)


def test_samples_of_weight_zero_are_not_there(rng):
    X = correlated(rng, 200, (8,), np.float32)
    weight = rng.uniform(0.5, 1, 200)
    weight[[3, 7]] = 0
    X[3], X[7] = 1e25 * X[3], 5.0  # beyond float32 when squared, and constant
    used = weight > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole = ConvGMM(2, random_state=0, tol=0, max_iter=5).fit(X, sample_weight=weight)
    part = fit_quietly(ConvGMM(2, random_state=0, tol=0, max_iter=5), X[used], sample_weight=weight[used])
    np.testing.assert_array_equal(whole.spectra_, part.spectra_)


def test_a_floor_beyond_the_number_format_is_refused(rng):
    X = (correlated(rng, 100, (8,)) * 1e-5).astype(np.float32)
    with pytest.raises(ValueError, match="floor"):
        ConvGMM(2, reg_spectrum=1e-30).fit(X)
    with pytest.raises(ValueError, match="too small for float32"):
        ConvGMM(1, spectra_init=np.full((1, 8), 1e-39)).fit(X)


def test_the_start_is_better_than_random_ones(rng):
    X = correlated(rng, 3000, (8, 8), np.float32)
    X *= np.exp(rng.normal(0, 1, (3000, 1, 1))).astype(np.float32)

    def mean_bound(init):
        return np.mean(
            [fit_quietly(ConvGMM(12, init=init, tol=0, max_iter=15, random_state=s), X).lower_bound_ for s in range(5)]
        )

    assert mean_bound("kmeans++") > mean_bound("random")

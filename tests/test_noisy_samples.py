"""`fit(noise_var=…)`: the mixture of a signal, from samples in white noise."""

import warnings
from functools import partial

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import oracle
from conftest import trials
from convgmm import ConvGMM, FullGMM, LikelihoodWarning, TorusGMM, load
from convgmm.algorithms import ALGORITHMS
from convgmm.datasets import Patches
from test_full_em import clusters, model

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

V = 0.3


def fields(rng, n, shape, noise_var=V, dtype=np.float64):
    """Return patches of two kinds, smooth along one axis or the other, in noise."""
    x = 0.5 * rng.standard_normal((n, *shape))
    x[: n // 2] = x[: n // 2].cumsum(axis=1)
    x[n // 2 :] = x[n // 2 :].cumsum(axis=-1)
    return (x + np.sqrt(noise_var) * rng.standard_normal(x.shape)).astype(dtype)


@pytest.mark.parametrize("basis", ["fourier", "dct"])
@pytest.mark.parametrize("remove_mean", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_spectra_match_the_oracle(basis, remove_mean, dtype, tolerance, rng):
    X, K = fields(rng, 600, (6, 5), dtype=dtype), 3
    spectra = oracle.symmetric_spectra(rng, K, (6, 5)) if basis == "fourier" else rng.uniform(0.1, 2, (K, 6, 5))
    options = {"remove_mean": remove_mean, "basis": basis, "reg_spectrum": 1e-3}
    course = oracle.em(X, np.full(K, 1 / K), spectra, n_iter=15, noise_var=V, **options)
    fitted = ConvGMM(K, spectra_init=spectra, tol=0, max_iter=15, prune_threshold=0, **options).fit(X, noise_var=V)
    np.testing.assert_allclose(fitted.lower_bounds_, course.lower_bounds, rtol=tolerance)
    if dtype == np.float64:
        np.testing.assert_allclose(fitted.spectra_.reshape(K, -1), course.spectra, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("D", [8, 40])
@pytest.mark.parametrize("zero_means", [False, True])
def test_covariances_match_the_oracle(D, zero_means, rng):
    X, (weights, means, covariances) = clusters(rng, 900, D, 3)
    X += np.sqrt(V) * rng.standard_normal(X.shape)
    if zero_means:
        means = np.zeros_like(means)
    course = oracle.full_em(
        X, weights, means, covariances, n_iter=15, reg_covar=1e-3, zero_means=zero_means, noise_var=V
    )
    given = (weights, None if zero_means else means, covariances)
    fitted = model(given, means="zero" if zero_means else "free", reg_covar=1e-3, max_iter=15).fit(X, noise_var=V)
    np.testing.assert_allclose(fitted.lower_bounds_, course.lower_bounds, rtol=1e-9)
    np.testing.assert_allclose(fitted.covariances_, course.covariances, rtol=1e-6, atol=1e-8)
    assert np.linalg.eigvalsh(fitted.covariances_).min() > 1e-3 * (1 - 1e-6)


def test_where_it_ends_the_moments_of_the_signals_posterior_are_its_covariance(rng):
    """EM over the signals themselves, C ← G S Gᵀ + (I − G) C with G = C (C + vI)⁻¹, has the same optimum."""
    X, start = clusters(rng, 3000, 4, 2, apart=8.0)
    X += 0.3 * rng.standard_normal(X.shape)
    fitted = model(start, reg_covar=1e-9, max_iter=300, prune_threshold=0).fit(X, noise_var=0.09)
    noisy = fitted.covariances_ + 0.09 * np.eye(4)
    joint = oracle.full_log_density(X, fitted.means_, noisy) + np.log(fitted.weights_)
    gamma = np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])
    for k, C in enumerate(fitted.covariances_):
        if np.linalg.eigvalsh(C)[0] < 1e-6:
            continue
        apart = X - fitted.means_[k]
        S = (gamma[:, k, None] * apart).T @ apart / gamma[:, k].sum()
        G = C @ np.linalg.inv(noisy[k])
        np.testing.assert_allclose(G @ S @ G.T + C - G @ C, C, atol=1e-6)


@pytest.mark.parametrize("make", [ConvGMM, TorusGMM, FullGMM])
def test_the_signal_is_found_behind_the_noise(make, rng):
    noisy = fields(rng, 20_000, (4, 4), 0.5)
    clean, other = fields(rng, 20_000, (4, 4), 0.0), fields(rng, 5000, (4, 4), 0.0)
    of_clean, of_noisy, deaf = (make(2, tol=1e-5, max_iter=300, random_state=0) for _ in range(3))
    of_clean.fit(clean)
    of_noisy.fit(noisy, noise_var=0.5)
    deaf.fit(noisy)
    assert of_noisy.score(other) > of_clean.score(other) - 0.3
    assert of_noisy.score(other) > deaf.score(other) + 2
    restored = of_noisy.posterior_mean(noisy, 0.5)
    assert restored.shape == noisy.shape


@pytest.mark.parametrize("trial", trials(6, 300))
def test_the_likelihood_never_falls(trial):
    rng = np.random.default_rng([trial, 13])
    shape, K, v = (int(rng.integers(2, 5)), int(rng.integers(2, 5))), int(rng.integers(1, 5)), 10 ** rng.uniform(-3, 1)
    X = fields(rng, 50 * K, shape, v, [np.float32, np.float64][trial % 2])
    make = (ConvGMM, FullGMM, TorusGMM)[trial // 2 % 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error", LikelihoodWarning)
        fitted = make(K, tol=0, max_iter=25, prune_threshold=0, random_state=trial).fit(X, noise_var=v)
    D = np.prod(shape)
    fall = -np.diff(fitted.lower_bounds_).min()
    assert fall <= 64 * np.finfo(X.dtype).eps * (np.abs(fitted.lower_bounds_).max() + D)


@pytest.mark.parametrize("make", [ConvGMM, FullGMM, TorusGMM])
def test_threads_streams_files_and_warm_starts(make, rng, tmp_path):
    images = [fields(rng, 1, (60, 60))[0] for _ in range(3)]
    source = Patches(images, (6, 6), 3000, remove_mean=False, min_std=0, random_state=0)
    blocks = np.concatenate(list(source)).reshape(3000, -1) if make is FullGMM else np.concatenate(list(source))
    options = {"tol": 0, "max_iter": 4, "random_state": 0}
    one = make(3, n_threads=1, **options).fit(blocks, noise_var=V)
    two = make(3, n_threads=2, **options).fit(blocks, noise_var=V)
    for name, array in one.model_.arrays.items():
        np.testing.assert_array_equal(array, two.model_.arrays[name])
    one.save(tmp_path / "model.npz")
    assert load(tmp_path / "model.npz").score(blocks) == one.score(blocks)
    bound = one.lower_bound_
    one.set_params(warm_start=True).fit(blocks, noise_var=V)
    assert one.lower_bounds_[0] > bound
    if make is not FullGMM:
        streamed = make(3, **options).fit(source, noise_var=V)
        assert streamed.lower_bound_ == pytest.approx(bound, abs=0.5)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_takes_noise(algorithm, rng):
    X = fields(rng, 2000, (4, 4))
    for make in (partial(ConvGMM, remove_mean=False), FullGMM):
        fitted = make(2, algorithm=algorithm, tol=0.01, max_iter=30, random_state=0).fit(X, noise_var=V)
        signal = fitted.sample(20_000)[0]
        assert signal.var() == pytest.approx(X.var() - V, rel=0.05)
        assert (fitted.lower_bounds_[1:] > make(1, max_iter=1, tol=0).fit(X).lower_bound_ - 1).all()


def test_a_checkpoint_of_other_noise_is_refused(rng, tmp_path):
    X = fields(rng, 400, (4, 4))
    options = {"checkpoint": tmp_path / "fit", "tol": 0, "max_iter": 3, "random_state": 0}

    def cut_off(iteration):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        ConvGMM(2, callback=cut_off, **options).fit(X, noise_var=V)
    with pytest.raises(ValueError, match="noise_var"):
        ConvGMM(2, **options).fit(X, noise_var=2 * V)
    ConvGMM(2, **options).fit(X, noise_var=V)


def test_bad_noise_is_refused(rng):
    X = fields(rng, 100, (4, 4))
    for bad in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match="noise_var must be 0 or more"):
            ConvGMM(2).fit(X, noise_var=bad)
    with pytest.raises(ValueError, match="one scale"):
        ConvGMM(2, scales=3).fit(X, noise_var=V)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        same = ConvGMM(2, random_state=0).fit(X, noise_var=0)
    np.testing.assert_array_equal(same.spectra_, ConvGMM(2, random_state=0).fit(X).spectra_)

"""The full-covariance mixture against the float64 oracle and scikit-learn, and what pruning may not change."""

import warnings
from contextlib import suppress

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

import oracle
from conftest import trials
from convgmm import FullGMM, LikelihoodWarning, _core, initialize
from convgmm.datasets import load_mnist
from convgmm.em import Options, run
from convgmm.families import CollapseError, Full
from convgmm.families.full import FullStart
from convgmm.problem import Problem
from convgmm.source import InMemory

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def clusters(rng, n, D, K, apart=3.0, dtype=np.float64):
    """Return samples of K Gaussians with spectra that fall, as those of images do, and a start (w, μ, C)."""
    scales = 1 / (1 + np.arange(D)) ** 0.7
    mixing = [np.linalg.qr(rng.standard_normal((D, D)))[0] * scales for _ in range(K)]
    centres = rng.standard_normal((K, D)) * scales * apart
    label = rng.integers(0, K, n)
    X = centres[label] + np.einsum(
        "nd,nde->ne", rng.standard_normal((n, D)), np.stack(mixing)[label].transpose(0, 2, 1)
    )
    X = X.astype(dtype)
    start = np.full(K, 1 / K), X[rng.choice(n, K, replace=False)].astype(np.float64), np.tile(np.cov(X.T), (K, 1, 1))
    return X, (start[0], start[1], start[2].reshape(K, D, D))


def model(start, **options):
    weights, means, covariances = start
    options = {"tol": 0, "max_iter": 20, "prune_threshold": 0} | options
    return FullGMM(len(weights), weights_init=weights, means_init=means, covariances_init=covariances, **options)


@pytest.mark.parametrize(
    ("D", "K"), [(1, 2), (3, 4), (8, 32), (33, 5), (64, 12), (150, 6), pytest.param(300, 3, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-9)])
def test_twenty_iterations_match_the_oracle(D, K, dtype, tolerance, rng):
    X, start = clusters(rng, max(60 * K, 3 * D * K), D, K, dtype=dtype)
    course = oracle.full_em(X, *start, n_iter=20, reg_covar=1e-4)
    fitted = model(start, reg_covar=1e-4).fit(X)
    scale = np.maximum(np.abs(course.lower_bounds), D)
    np.testing.assert_array_less(np.abs(fitted.lower_bounds_ - course.lower_bounds) / scale, tolerance)
    if dtype == np.float64:
        np.testing.assert_allclose(fitted.means_, course.means, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(fitted.covariances_, course.covariances, rtol=1e-6, atol=1e-8)


def raw_start(fitted, X):
    """Return what the core takes for the model's parameters: samples, means, whiteners, constants."""
    data = fitted.model_.values(X, 0)
    prepared = fitted.model_.prepared(data.dtype, 0)
    return data, prepared.means, prepared.whiteners, prepared.log_normalisers + prepared.log_weights


# The last of these sizes have their moments summed in a second pass.
@pytest.mark.parametrize(("D", "K"), [(96, 10), (170, 10)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-9)])
def test_one_step_from_identical_parameters_with_every_way_to_prune(D, K, dtype, tolerance, rng):
    X, start = clusters(rng, 3001, D, K, apart=6.0, dtype=dtype)
    fitted = model(start, max_iter=4, reg_covar=1e-4).fit(X)
    weight = rng.uniform(0, 2, len(X))
    joint = oracle.full_log_density(X, fitted.means_, fitted.covariances_) + np.log(fitted.weights_)
    total = np.logaddexp.reduce(joint, axis=1)
    gamma = np.exp(joint - total[:, None]) * weight[:, None]
    data, *mixture = raw_start(fitted, X)
    for stages in ([D], [16, D], [20, 50, D], []):
        for winner in (np.full(len(X), -1), joint.argmin(axis=1), joint.argmax(axis=1)):  # unknown, worst, right
            winners = winner.astype(np.int32)
            share, _, second, log_likelihood, rows, pairs = _core.full_expect(
                data, *mixture, weight, winners, stages, 2
            )
            np.testing.assert_allclose(log_likelihood, weight @ total, rtol=tolerance)
            np.testing.assert_allclose(share, gamma.sum(axis=0), rtol=tolerance * 100, atol=tolerance * 10)
            assert (winners == joint.argmax(axis=1)).mean() >= 0.9999
            assert rows[-1] == D
            assert pairs[0] == len(X) * K
            if len(rows) > 1:
                assert pairs[-1] < pairs[0]  # it did prune
            k = 3
            d = data.astype(np.float64) - mixture[0][k]
            expected = (gamma[:, k, None] * d).T @ d
            np.testing.assert_allclose(second[k], expected, atol=tolerance * 10 * np.abs(expected).max())
    assert len(_core.full_expect(data, *mixture, None, np.full(len(X), -1, np.int32), [], 1)[4]) > 1


@pytest.mark.parametrize("D", [1, 2, 7, 8, 9, 17, 33, 63, 64, 65, 130])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-11)])
def test_the_products_match_numpy_for_any_number_of_features(D, dtype, tolerance, rng):
    K, n = 3, 300  # few components: their moments are summed in bands of rows
    X = rng.standard_normal((n, D)).astype(dtype)
    means = rng.standard_normal((K, D))
    covariances = np.stack([np.cov(rng.standard_normal((D, 3 * D + 5))).reshape(D, D) for _ in range(K)])
    factorize = _core.full_factorize_float32 if dtype == np.float32 else _core.full_factorize_float64
    whiteners, log_diagonal, inverse_diagonal, failed = factorize(covariances, 2)
    assert failed == -1
    inverse = np.diagonal(np.linalg.inv(covariances), axis1=1, axis2=2)
    np.testing.assert_allclose(inverse_diagonal, inverse, rtol=1e-8)
    density = _core.full_log_density(X, means, whiteners, log_diagonal - D / 2 * np.log(2 * np.pi), 2)
    expected = oracle.full_log_density(X, means, covariances)
    np.testing.assert_allclose(density, expected, rtol=tolerance, atol=tolerance * D)
    if dtype == np.float64:
        upper = _core.full_transpose_whiteners(whiteners, D, 2)
        np.testing.assert_array_equal(upper, np.triu(upper))
        np.testing.assert_allclose(upper @ upper.transpose(0, 2, 1), np.linalg.inv(covariances), rtol=1e-8, atol=1e-10)

    of = [rng.choice(n, size, replace=False) for size in (n, 1, 0)]  # each sample, one, and none
    gamma = [rng.uniform(size=len(samples)) for samples in of]
    offsets = np.cumsum([0, *map(len, of)])
    share, first, second, _ = _core.full_moments(X, offsets, np.concatenate(of), np.concatenate(gamma), means, 2)
    for k in range(K):
        about = X[of[k]].astype(np.float64) - means[k]
        np.testing.assert_allclose(share[k], gamma[k].sum(), rtol=tolerance)
        np.testing.assert_allclose(first[k], gamma[k] @ about, rtol=tolerance, atol=tolerance * n)
        np.testing.assert_allclose(second[k], (about.T * gamma[k]) @ about, rtol=tolerance, atol=tolerance * n)


@pytest.mark.data
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-9)])
def test_digits_match_the_dense_oracle(dtype, tolerance, data_dir):
    X = load_mnist("train", data_dir)[0][:12_000].reshape(12_000, -1).astype(dtype)
    first = FullGMM(8, random_state=0, max_iter=1, tol=0, prune_threshold=0).fit(X)
    start = first.weights_, first.means_, first.covariances_
    course = oracle.full_em(X, *start, n_iter=3, reg_covar=1e-6)
    fitted = model(start, max_iter=3, reg_covar=1e-6).fit(X)
    np.testing.assert_allclose(fitted.lower_bounds_, course.lower_bounds, rtol=tolerance)
    assert fitted.walk_[-1][1] < 0.3  # it did prune
    # One step from identical parameters.
    joint = oracle.full_log_density(X, *start[1:]) + np.log(start[0])
    data, *mixture = raw_start(first, X)
    winners = np.full(len(X), -1, dtype=np.int32)
    log_likelihood = _core.full_expect(data, *mixture, None, winners, [], 2)[3]
    np.testing.assert_allclose(log_likelihood, np.logaddexp.reduce(joint, axis=1).sum(), rtol=tolerance)
    assert (winners == joint.argmax(axis=1)).mean() >= 0.9999


def test_same_as_scikit_learn_on_small_problems():
    rng = np.random.default_rng(3)
    for _ in range(50):
        D, K = int(rng.integers(1, 9)), int(rng.integers(1, 5))
        X, start = clusters(rng, int(rng.integers(40 * K + 20, 600)), D, K)
        ours = model(start, reg_covar=1e-6).fit(X)
        weights, means, covariances = start
        theirs = GaussianMixture(
            K, weights_init=weights, means_init=means, precisions_init=np.linalg.inv(covariances), tol=0, max_iter=20
        ).fit(X)
        np.testing.assert_allclose(ours.weights_, theirs.weights_, atol=1e-8)
        np.testing.assert_allclose(ours.means_, theirs.means_, atol=1e-8)
        np.testing.assert_allclose(ours.covariances_, theirs.covariances_, atol=1e-8)
        np.testing.assert_allclose(ours.precisions_cholesky_, theirs.precisions_cholesky_, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("D", "K"), [(5, 3), (70, 2), (70, 20), (150, 12)])
def test_the_same_bits_for_any_number_of_threads(D, K, dtype, rng):
    X, start = clusters(rng, 2500, D, K, dtype=dtype)
    fits = [model(start, max_iter=4, n_threads=threads).fit(X) for threads in (1, 2, 3)]
    for other in fits[1:]:
        np.testing.assert_array_equal(other.lower_bounds_, fits[0].lower_bounds_)
        np.testing.assert_array_equal(other.covariances_, fits[0].covariances_)
        np.testing.assert_array_equal(other.predict_proba(X), fits[0].predict_proba(X))


def lost_to_rounding(parameters, before, dtype):
    """Return what rounding of coordinates, and of the sums of the last M-step, can move the mean log-likelihood by."""
    eps = np.finfo(dtype).eps
    inverse = np.diagonal(np.linalg.inv(parameters.covariances), axis1=1, axis2=2)
    squares = np.diagonal(parameters.covariances, axis1=1, axis2=2) + parameters.means**2
    lost = 0.5 * eps**2 * parameters.weights @ (inverse * squares).sum(axis=1)
    if before is not None and len(before.means) == len(parameters.means):
        moved = (parameters.means - before.means) ** 2 + np.diagonal(parameters.covariances, axis1=1, axis2=2)
        r = eps * (inverse * moved).sum(axis=1)
        lost += 0.5 * parameters.weights @ np.minimum(r, r**2)
    return float(lost)


@pytest.mark.parametrize("trial", trials(100, 1000))
def test_the_likelihood_never_falls_without_regularisation(trial):
    """Every step of random problems, also of those in which a component shrinks to a point, up to where it is one."""
    rng = np.random.default_rng([11, trial])
    D = int(rng.integers(1, 7)) if trial % 20 > 1 else 70  # from 64 on in float32
    K = int(rng.integers(1, 5))
    n = int(rng.integers(30 * K * D, 60 * K * D + 1))
    X, _ = clusters(rng, n, D, K, apart=rng.uniform(0, 5), dtype=(np.float32, np.float64)[trial % 2])
    family = Full(means=("free", "zero")[rng.integers(2)], reg_covar=0)
    problem = Problem.of(family, InMemory(X, None if rng.integers(2) else rng.exponential(size=n)), 1)
    given = FullStart(K, ("kmeans++", "random")[rng.integers(2)], None, None, None, None)
    start = problem.start(given, np.random.RandomState(trial))
    before, parameters, bounds, exempt = None, start, [], False
    options = Options(tol=0, max_iter=10, prune_threshold=0.0 if rng.integers(2) else 0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("error", LikelihoodWarning)
        try:
            for fit in run(problem, start, options):
                bound = fit.lower_bound
                rounding = 8 * np.finfo(problem.dtype).eps * (abs(bound) + D) + 8 * lost_to_rounding(
                    parameters, before, problem.dtype
                )
                rounding += K * (1e-7 if problem.dtype == np.float32 else 1e-15)
                assert not bounds or exempt or bound >= bounds[-1] - rounding, (len(bounds), bound - bounds[-1])
                bounds.append(bound)
                exempt = any(pruning.iteration == len(bounds) - 1 for pruning in fit.prunings)
                before, parameters = parameters, fit.parameters
        except CollapseError:  # lawful where a component has shrunk to a point, or into a plane, but for rounding
            values = np.linalg.eigvalsh(parameters.covariances)
            assert (values[:, 0] / values[:, -1]).min() < 100 * D * np.finfo(problem.dtype).eps
    assert np.isfinite(bounds).all()


@pytest.mark.parametrize("trial", range(30))
def test_with_regularisation_the_likelihood_falls_by_little(trial):
    rng = np.random.default_rng([13, trial])
    D, K = int(rng.integers(1, 7)), int(rng.integers(1, 5))
    X, _ = clusters(rng, 40 * K * D, D, K, apart=rng.uniform(0, 5))
    fitted = FullGMM(K, reg_covar=10.0 ** rng.uniform(-6, -2), tol=0, max_iter=10, random_state=trial)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("error", LikelihoodWarning)
        fitted.set_params(prune_threshold=0).fit(X)
    assert np.diff(fitted.lower_bounds_).min() > -1e-2


def test_zero_means_match_the_oracle(rng):
    X, (weights, _, covariances) = clusters(rng, 800, 40, 3, apart=0.5)
    course = oracle.full_em(
        X,
        weights,
        np.zeros((3, 40)),
        covariances * np.arange(1, 4)[:, None, None],
        n_iter=10,
        reg_covar=1e-6,
        zero_means=True,
    )
    fitted = FullGMM(
        3,
        means="zero",
        weights_init=weights,
        covariances_init=covariances * np.arange(1, 4)[:, None, None],
        tol=0,
        max_iter=10,
    ).fit(X)
    np.testing.assert_allclose(fitted.lower_bounds_, course.lower_bounds, rtol=1e-9)
    np.testing.assert_array_equal(fitted.means_, 0)


def test_each_part_of_a_start_may_be_given_alone(rng):
    X, (weights, means, covariances) = clusters(rng, 600, 4, 3)
    exact = model((weights, means, covariances), max_iter=1, reg_covar=0.5).fit(X)
    joint = oracle.full_log_density(X, means, covariances) + np.log(weights)
    np.testing.assert_allclose(exact.lower_bounds_[0], np.logaddexp.reduce(joint, axis=1).mean())  # no reg_covar in it
    for name, value in (("weights_init", weights), ("means_init", means), ("covariances_init", covariances)):
        assert FullGMM(3, random_state=0, max_iter=3, **{name: value}).fit(X).n_iter_ == 3
    resp = rng.dirichlet(np.ones(3), 600)
    course = oracle.full_em(
        X, resp.mean(axis=0), resp.T @ X / resp.sum(axis=0)[:, None],
        np.stack([np.cov(X.T, aweights=resp[:, k], bias=True) + 1e-3 * np.eye(4) for k in range(3)]),
        n_iter=5, reg_covar=1e-3,
    )  # fmt: skip
    fitted = FullGMM(3, resp_init=resp, reg_covar=1e-3, tol=0, max_iter=5).fit(X)
    np.testing.assert_allclose(fitted.lower_bounds_, course.lower_bounds, rtol=1e-8)


def test_an_empty_component_is_pruned_or_stays_as_it_is(rng):
    X, (weights, means, covariances) = clusters(rng, 500, 40, 3)
    means[1] = 1e4
    pruned = model((weights, means, covariances), prune_threshold=1e-4, max_iter=8).fit(X)
    assert [(p.iteration, p.index) for p in pruned.pruned_] == [(0, 1)]
    kept = model((weights, means, covariances), max_iter=8).fit(X)
    assert kept.weights_[1] == 0
    np.testing.assert_allclose(kept.means_[1], 1e4)
    np.testing.assert_allclose(kept.covariances_[1], covariances[1], atol=1e-8)
    np.testing.assert_allclose(kept.score(X), pruned.score(X))


@pytest.mark.parametrize("kind", ["constant pixels", "duplicates", "fewer samples than features"])
def test_degenerate_data_is_handled_by_reg_covar_or_named(kind, rng):
    X = rng.standard_normal((60, 50))
    if kind == "constant pixels":
        X[:, 10:30] = 2.0
    elif kind == "duplicates":
        X[:] = X[:1]
    else:
        X = X[:20]
    fitted = FullGMM(2, random_state=0, max_iter=5, reg_covar=1e-3).fit(X)
    assert np.isfinite(fitted.lower_bounds_).all()
    with pytest.raises(ValueError, match=r"component \d is not positive definite.*Raise reg_covar"):
        FullGMM(2, random_state=0, reg_covar=0).fit(X)


def test_starts_that_collapse_are_given_up_unless_all_do(rng):
    X = np.concatenate([rng.standard_normal((60, 2)), np.zeros((3, 2))])
    options = {"init": "random", "reg_covar": 0, "max_iter": 200}
    starts = np.random.RandomState(0)
    bounds = []
    for _ in range(16):
        with suppress(ValueError):
            bounds.append(FullGMM(4, random_state=starts, **options).fit(X).lower_bound_)
    given_up = 16 - len(bounds)
    assert 0 < given_up < 16
    with pytest.warns(ConvergenceWarning, match=rf"{given_up} of 16 starts were given up: the covariance of component"):
        best = FullGMM(4, n_init=16, random_state=np.random.RandomState(0), **options).fit(X)
    assert best.lower_bound_ == max(bounds)
    with pytest.raises(ValueError, match="Raise reg_covar"):
        FullGMM(2, n_init=3, random_state=0, **options).fit(np.repeat(X[:2], 30, axis=0))


def test_a_failed_fit_leaves_the_model_as_it_was(rng):
    X = rng.standard_normal((60, 5))
    fitted = FullGMM(2, random_state=0, reg_covar=0, max_iter=5).fit(X)
    before = fitted.score(X), fitted.lower_bounds_
    with pytest.raises(ValueError, match="Raise reg_covar"):
        fitted.fit(np.repeat(X[:2], 30, axis=0))
    assert fitted.lower_bounds_ is before[1]
    assert fitted.weights_.shape == (2,)


def test_one_random_state_is_one_start_in_either_dtype(rng):
    X, _ = clusters(rng, 6000, 70, 8, apart=1.0)
    X = (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)  # norms that rounding alone tells apart
    options = {"random_state": 0, "tol": 0, "max_iter": 4}
    single, double = FullGMM(8, **options).fit(X), FullGMM(8, **options).fit(X.astype(np.float64))
    np.testing.assert_allclose(single.lower_bounds_, double.lower_bounds_, rtol=1e-5)


def test_a_start_does_not_depend_on_the_order_of_samples_of_equal_norm(rng):
    X = np.eye(12)[rng.integers(0, 12, 600)]  # as rows of sure posteriors are
    options = {"init": "random", "random_state": 0, "tol": 0, "max_iter": 2, "reg_covar": 1e-2}
    one, other = FullGMM(4, **options).fit(X), FullGMM(4, **options).fit(X[rng.permutation(600)])
    np.testing.assert_allclose(one.means_, other.means_, atol=1e-9)


def test_random_starts_are_distinct_samples(rng):
    X = np.repeat(rng.standard_normal((12, 3)), 40, axis=0)
    fitted = FullGMM(10, init="random", max_iter=1, random_state=0, reg_covar=1e-3).fit(X)
    assert fitted.n_components_ == 10


def test_responsibilities_belong_to_samples_of_weight(rng):
    X, _ = clusters(rng, 300, 4, 2)
    resp = rng.dirichlet(np.ones(2), 300)
    weight = rng.integers(0, 3, 300)
    options = {"tol": 0, "max_iter": 4, "reg_covar": 1e-3}
    weighted = FullGMM(2, resp_init=resp, **options).fit(X, sample_weight=weight)
    repeated = FullGMM(2, resp_init=np.repeat(resp, weight, axis=0), **options).fit(np.repeat(X, weight, axis=0))
    np.testing.assert_allclose(weighted.covariances_, repeated.covariances_, rtol=1e-8, atol=1e-10)


def test_log_density_is_full_and_outputs_follow(rng):
    X, start = clusters(rng, 400, 50, 4)
    fitted = model(start, max_iter=3).fit(X)
    density = fitted.log_density(X)
    np.testing.assert_allclose(density, oracle.full_log_density(X, fitted.means_, fitted.covariances_), rtol=1e-8)
    likelihood = fitted.set_params(output="likelihood").transform(X)
    np.testing.assert_allclose(likelihood, np.exp(density - np.logaddexp.reduce(density, axis=1)[:, None]), atol=1e-12)


def test_sample_and_criteria(rng):
    X, start = clusters(rng, 900, 3, 2)
    fitted = model(start).fit(X.reshape(900, 3, 1))
    drawn, components = fitted.sample(40000)
    assert drawn.shape == (40000, 3, 1)
    for k in range(2):
        of_k = drawn[components == k].reshape(-1, 3)
        np.testing.assert_allclose(of_k.mean(axis=0), fitted.means_[k], atol=0.05)
        np.testing.assert_allclose(np.cov(of_k.T), fitted.covariances_[k], atol=0.05)
    p = 2 * (3 + 6) + 1
    assert fitted.bic(X) == pytest.approx(p * np.log(900) - 2 * fitted.score_samples(X).sum())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"means": "none"}, "means"),
        ({"means_init": np.ones((3, 4))}, "means_init"),
        ({"means_init": np.full((2, 4), np.nan)}, "finite"),
        ({"means_init": np.ones((2, 4)), "means": "zero"}, "zero"),
        ({"covariances_init": np.ones((2, 4))}, "covariances_init"),
        ({"covariances_init": -np.tile(np.eye(4), (2, 1, 1))}, r"covariances_init\[0\] is not positive definite"),
        ({"covariances_init": np.tile(np.triu(np.ones((4, 4))), (2, 1, 1))}, "symmetric"),
        ({"resp_init": np.ones((50, 2))}, "sum to 1"),
        ({"resp_init": np.ones((49, 2)) / 2}, "resp_init"),
        ({"reg_covar": -1}, "reg_covar"),
    ],
)
def test_bad_starts_are_refused(options, message, rng):
    with pytest.raises(ValueError, match=message):
        FullGMM(2, **options).fit(rng.standard_normal((50, 4)))


def test_huge_values_are_refused(rng):
    with pytest.raises(ValueError, match="rescale X"):
        FullGMM(1).fit(rng.standard_normal((50, 80)).astype(np.float32) * np.float32(1e20))


def test_made_of_parameters_it_answers_like_the_oracle(rng):
    X, (weights, means, covariances) = clusters(rng, 400, 40, 3)
    made = FullGMM.from_parameters(weights, means, covariances)
    joint = oracle.full_log_density(X, means, covariances) + np.log(weights)
    np.testing.assert_allclose(made.log_density(X), joint - np.log(weights), rtol=1e-8)
    np.testing.assert_allclose(made.score_samples(X), np.logaddexp.reduce(joint, axis=1), rtol=1e-9)
    np.testing.assert_array_equal(made.predict(X), joint.argmax(axis=1))
    np.testing.assert_allclose(made.precisions_, np.linalg.inv(covariances), rtol=1e-6, atol=1e-8)
    assert made.sample(3)[0].shape == (3, 40)
    on = made.set_params(warm_start=True, max_iter=4, tol=0).fit(X)
    given = model((weights, means, covariances), max_iter=4, prune_threshold=1e-4).fit(X)
    np.testing.assert_allclose(on.covariances_, given.covariances_, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (([0.5, 0.5], np.zeros((2, 3)), np.tile(np.eye(3), (3, 1, 1))), "covariances has shape"),
        (([0.5, 0.5], np.zeros((3, 3)), np.tile(np.eye(3), (2, 1, 1))), "means has shape"),
        (([0.5, 0.5], np.full((2, 3), np.nan), np.tile(np.eye(3), (2, 1, 1))), "means must be finite"),
        (([0.5, 0.5], np.zeros((2, 3)), np.full((2, 3, 3), np.nan)), "covariances must be finite"),
        (([0.5, 0.5], np.zeros((2, 3)), -np.tile(np.eye(3), (2, 1, 1))), r"covariances\[0\] is not positive definite"),
        (([0.5, 0.5], np.zeros((2, 3)), np.tile(np.triu(np.ones((3, 3))), (2, 1, 1))), "symmetric"),
        (([0.5, 0.6], np.zeros((2, 3)), np.tile(np.eye(3), (2, 1, 1))), "sum to 1"),
    ],
)
def test_parameters_that_are_no_mixture_are_refused(arrays, message):
    with pytest.raises(ValueError, match=message):
        FullGMM.from_parameters(*arrays)


def test_attributes_set_by_hand_are_checked(rng):
    X = rng.standard_normal((60, 3))
    fitted = FullGMM(2, random_state=0).fit(X)
    fitted.covariances_ = np.full((2, 3, 3), np.nan)
    with pytest.raises(ValueError, match="covariances must be finite"):
        fitted.predict(X)


def test_precisions_start_like_their_inverses(rng):
    X, (weights, means, covariances) = clusters(rng, 400, 5, 3)
    options = {"weights_init": weights, "means_init": means, "max_iter": 3, "tol": 0}
    by_precision = FullGMM(3, precisions_init=np.linalg.inv(covariances), **options).fit(X)
    np.testing.assert_allclose(
        by_precision.covariances_, FullGMM(3, covariances_init=covariances, **options).fit(X).covariances_, rtol=1e-6
    )
    theirs = GaussianMixture(3, precisions_init=np.linalg.inv(covariances), random_state=0).fit(X)
    assert theirs.precisions_.shape == by_precision.precisions_.shape
    with pytest.raises(ValueError, match="cannot both"):
        FullGMM(3, precisions_init=covariances, covariances_init=covariances).fit(X)


def test_a_bound_that_nears_its_limit_from_above_converges():
    X = make_blobs(300, 3, centers=4, random_state=0)[0] * 1e-3
    fitted = FullGMM(4, random_state=0).fit(X)
    assert fitted.converged_
    assert fitted.n_iter_ < 30


def test_the_best_start_that_can_be_used_is_kept(rng):
    """Also where the last M-step of a start leaves covariances that cannot be factored."""
    X = np.concatenate([rng.standard_normal((60, 2)), np.zeros((3, 2))])
    options = {"init": "random", "reg_covar": 0, "tol": 0}
    collapses_at = []
    for seed in range(8):
        for max_iter in range(1, 40):
            try:
                FullGMM(4, random_state=seed, max_iter=max_iter, **options).fit(X)
            except ValueError:
                collapses_at.append((seed, max_iter))
                break
    assert collapses_at
    for seed, max_iter in collapses_at[:4]:
        starts = np.random.RandomState(seed)
        fitted = FullGMM(4, n_init=12, random_state=starts, max_iter=max_iter, **options).fit(X)
        assert np.isfinite(fitted.score(X))
        assert fitted.sample(3)[0].shape == (3, 2)


@pytest.mark.parametrize("trial", trials(40, 1000))
def test_what_was_fitted_can_be_used(trial):
    rng = np.random.default_rng([17, trial])
    D = int(rng.integers(2, 50))
    X = rng.standard_normal((int(rng.integers(D // 2 + 4, 3 * D + 8)), D)) @ np.diag(10.0 ** rng.uniform(-4, 4, D))
    fitted = FullGMM(2, random_state=trial, reg_covar=10.0 ** rng.uniform(-16, -6), max_iter=8, n_threads=1)
    try:
        fitted.fit(X)
    except CollapseError:
        return
    assert np.isfinite(fitted.score(X))
    assert np.isfinite(fitted.sample(5)[0]).all()
    assert np.isfinite(fitted.precisions_cholesky_).all()
    fitted.weights_ = fitted.weights_.copy()
    assert np.isfinite(fitted.score(X))  # checked again


@pytest.mark.parametrize("trial", range(20))
def test_nearly_singular_models_can_be_used_or_are_refused(trial, tmp_path):
    rng = np.random.default_rng([19, trial])
    rank, D = rng.integers(3, 30), 33
    X = rng.standard_normal((60, rank)) @ rng.standard_normal((rank, D))
    X += 10.0 ** rng.uniform(-9, -6.5) * rng.standard_normal((60, D))
    try:
        fitted = FullGMM(1, reg_covar=0, random_state=0, max_iter=2).fit(X)
    except CollapseError:
        return
    fitted.save(tmp_path / "model")
    loaded = FullGMM.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(loaded.sample(4)[0], fitted.sample(4)[0])


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-4)])
def test_features_of_very_different_scales(dtype, tolerance, rng):
    D = 70
    scales = 10.0 ** rng.uniform(-6, 6, D)
    X = (rng.standard_normal((900, D)) @ np.linalg.cholesky(np.eye(D) * 0.5 + 0.5).T * scales).astype(dtype)
    fitted = FullGMM(1, reg_covar=0, max_iter=2, tol=0).fit(X)
    exact = np.cov(X.astype(np.float64).T, bias=True)
    size = np.sqrt(np.diag(exact))
    np.testing.assert_allclose(
        fitted.covariances_[0] / size / size[:, None], exact / size / size[:, None], atol=tolerance
    )


def test_a_singular_float32_problem_neither_warns_nor_stops_by_chance(rng):
    """64 features, nearly dependent, as log-densities of a layer below are."""
    hidden = rng.standard_normal((3000, 6)) @ rng.standard_normal((6, 64))
    X = (hidden + 10.0 ** rng.uniform(-4, -3, 64) * rng.standard_normal((3000, 64))).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("error", LikelihoodWarning)
        fitted = FullGMM(3, reg_covar=0, random_state=0, max_iter=40, tol=0).fit(X)
    exact = FullGMM(3, reg_covar=0, random_state=0, max_iter=40, tol=0).fit(X.astype(np.float64))
    np.testing.assert_allclose(fitted.lower_bounds_, exact.lower_bounds_, atol=0.05)


@pytest.mark.parametrize("shift", [1e4, 1e6])
def test_a_large_mean_does_not_hide_the_axes(shift, rng):
    X, _ = clusters(rng, 2000, 64, 2, apart=0.0)
    family = Full()
    axes = [Problem.of(family, InMemory(data), 1).frame.axes for data in (X, X + shift)]
    assert axes[1] is not None
    variances = [np.var(X @ each, axis=0)[0] for each in axes]
    np.testing.assert_allclose(variances[1], variances[0], rtol=1e-3)


def test_samples_have_the_moments_of_a_rotated_model(rng):
    X, start = clusters(rng, 900, 40, 1)
    drawn = model(start, max_iter=2).fit(X).sample(60000)[0]
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(X.T), atol=0.05)


def test_one_sample_is_answered_from_what_was_prepared(rng, monkeypatch):
    X, start = clusters(rng, 300, 70, 3)
    fitted = model(start, max_iter=2).fit(X)
    expected = fitted.predict_proba(X)

    def again(*arguments, **options):
        raise AssertionError("factored or rotated again")

    for name in ("full_factorize_float64", "full_factorize_float32", "principal_axes"):
        monkeypatch.setattr(_core, name, again)
    np.testing.assert_allclose(fitted.predict_proba(X[:1])[0], expected[0], atol=1e-12)


def test_a_sample_too_distant_for_float32_is_computed_in_float64(rng):
    X, start = clusters(rng, 600, 70, 3, dtype=np.float32)
    fitted = model(start, max_iter=2).fit(X)
    far = X.copy()
    far[7] *= np.float32(1e19)
    expected = fitted.predict_proba(far[7:8].astype(np.float64))
    found = fitted.predict_proba(far)
    np.testing.assert_allclose(found[7], expected[0], atol=1e-6)
    np.testing.assert_array_equal(np.delete(found, 7, axis=0), np.delete(fitted.predict_proba(X), 7, axis=0))


def test_nearest_centres_do_not_depend_on_blocks(rng, monkeypatch):
    X, centres = rng.standard_normal((500, 40)).astype(np.float32), rng.standard_normal((7, 40))
    expected = ((X[:, None].astype(float) - centres) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(initialize.nearest(X, centres, 1), expected)
    monkeypatch.setattr(initialize, "_BLOCK_VALUES", 100)
    np.testing.assert_array_equal(initialize.nearest(X, centres, 1), expected)

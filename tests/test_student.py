"""Components with Student's t for their tails: the float64 oracle, and what EM promises of them."""

import warnings

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import f, multivariate_t

import oracle
from convgmm import ConvGMM, FullGMM, LikelihoodWarning, TorusGMM, _core
from convgmm.basis import Fourier
from convgmm.plotting import plot_sheets

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def samples(rng, n, shape, dtype=np.float64, df=(2.0, 9.0)):
    """Return rough and smooth samples, with tails of different weight."""
    x = rng.standard_normal((n, *shape))
    x[n // 2 :] = x[n // 2 :].cumsum(axis=-1)
    nu = np.where(np.arange(n) < n // 2, *df)
    x /= np.sqrt(rng.chisquare(nu) / nu).reshape(-1, *[1] * len(shape))
    return x.astype(dtype)


@pytest.mark.parametrize("basis", ["fourier", "dct"])
@pytest.mark.parametrize(("shape", "remove_mean"), [((6, 6), True), ((15,), False), ((17, 19), True)], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_spectra_match_the_oracle(basis, shape, remove_mean, dtype, tolerance, rng):
    K, n = 4, 403
    X = samples(rng, n, shape, dtype)
    spectra, weights, df = oracle.symmetric_spectra(rng, K, shape), rng.dirichlet(np.ones(K)), np.full(K, 4.0)
    start = {"weights_init": weights, "spectra_init": spectra, "tails": "t", "reg_spectrum": 1e-12}
    options = {"tol": 0, "max_iter": 6, "prune_threshold": 0, "patch_shape": shape}
    model = ConvGMM(K, basis=basis, remove_mean=remove_mean, **start, **options).fit(X.reshape(n, -1))
    plane = oracle.SQUARES[basis](X, remove_mean)
    used = ~np.isnan(plane[0])
    plane, S = plane[:, used], spectra.reshape(K, -1)[:, used]
    course = oracle.student_em(plane, plane, weights, np.zeros_like(S), S, df, n_iter=6)
    np.testing.assert_allclose(model.lower_bounds_, course.lower_bounds, rtol=tolerance)
    np.testing.assert_allclose(model.weights_, course.weights, atol=200 * tolerance)
    np.testing.assert_allclose(model.df_, course.df, rtol=1000 * tolerance)
    np.testing.assert_allclose(
        model.spectra_.reshape(K, -1)[:, used], course.variances, rtol=2000 * tolerance, atol=tolerance
    )


@pytest.mark.parametrize("means", ["zero", "free"])
@pytest.mark.parametrize("shape", [(5,), (100,)], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-9)])
def test_full_covariances_match_the_oracle(means, shape, dtype, tolerance, rng):
    """100 values are pruned in several stages, and in float32 computed in it."""
    K, n, D = 3, 1500, shape[0]
    X = samples(rng, n, shape, dtype)
    factors = rng.standard_normal((K, D, 2 * D))
    covariances = factors @ factors.transpose(0, 2, 1) / D
    weights, centres = np.full(K, 1 / K), 0.1 * rng.standard_normal((K, D))
    start = {"weights_init": weights, "covariances_init": covariances, "tails": "t"}
    if means == "free":
        start["means_init"] = centres
    weight = rng.uniform(0.5, 2, n)
    options = {"tol": 0, "max_iter": 5, "prune_threshold": 0, "reg_covar": 0}
    model = FullGMM(K, means=means, **start, **options).fit(X, sample_weight=weight)
    course = oracle.student_em(
        None, X.astype(np.float64), weights, centres * (means == "free"), covariances, np.full(K, 4.0), n_iter=5,
        free_means=means == "free", sample_weight=weight,
    )  # fmt: skip
    np.testing.assert_allclose(model.lower_bounds_, course.lower_bounds, rtol=tolerance)
    np.testing.assert_allclose(model.df_, course.df, rtol=1000 * tolerance)
    np.testing.assert_allclose(model.means_, course.means, rtol=0, atol=100 * tolerance)
    np.testing.assert_allclose(model.covariances_, course.variances, rtol=0, atol=1000 * tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-9)])
def test_answers_are_those_of_multivariate_t(dtype, tolerance, rng):
    K, D, df = 3, 40, np.array([0.7, 5.0, 3e5])
    factors = rng.standard_normal((K, D, 2 * D))
    covariances, means = factors @ factors.transpose(0, 2, 1) / D, rng.standard_normal((K, D))
    weights = rng.dirichlet(np.ones(K))
    model = FullGMM.from_parameters(weights, means, covariances, tails="t", df=df)
    X = (3 * rng.standard_normal((201, D))).astype(dtype)
    density = np.stack(
        [multivariate_t(m, C, v).logpdf(X) for m, C, v in zip(means, covariances, df, strict=True)], axis=1
    )
    joint = density + np.log(weights)
    np.testing.assert_allclose(model.log_density(X), density, rtol=tolerance)
    np.testing.assert_allclose(model.score_samples(X), logsumexp(joint, axis=1), rtol=tolerance)
    gamma = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    np.testing.assert_allclose(model.predict_proba(X), gamma, atol=10 * tolerance)
    assert model.model_.n_parameters() == 2 + 3 * (D * (D + 1) // 2 + D + 1)
    total = logsumexp(joint, axis=1).sum()
    assert model.aic(X) == pytest.approx(2 * model.model_.n_parameters() - 2 * total, rel=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("assignment", ["hard", "draw"])
def test_one_component_is_chosen_and_weighs_its_samples(assignment, dtype, rng):
    K, n = 4, 261
    P = Fourier((6, 6), True).coefficients(samples(rng, n, (6, 6), dtype).reshape(n, -1), 1)
    m, df = Fourier((6, 6), True).multiplicities, rng.uniform(1, 9, K)
    spectra = Fourier((6, 6), True).from_plane(oracle.symmetric_spectra(rng, K, (6, 6)))
    share, _, _, sums = _core.spectral_expect(P, m, spectra, np.zeros(K), None, 2, assignment, 7, 1, 0, df)
    assert share.sum() == n
    np.testing.assert_allclose(sums[:, 0], share)
    distance = P.astype(np.float64) @ (m / spectra).T
    if assignment == "hard":
        chosen = (-0.5 * (df + 35) * np.log1p(distance / df)).argmax(axis=1)
        u = ((df + 35) / (df + distance))[np.arange(n), chosen]
        np.testing.assert_allclose(sums[:, 1], np.bincount(chosen, u, K), rtol=1e-4)
        np.testing.assert_allclose(sums[:, 2], np.bincount(chosen, np.log(u), K), rtol=1e-4, atol=1e-3)


def models(**options):
    shared = {"tails": "t", "random_state": 0, "tol": 0, "max_iter": 25} | options
    return [
        ConvGMM(4, patch_shape=(6, 6), **shared),
        ConvGMM(4, patch_shape=(6, 6), basis="dct", **shared),
        ConvGMM(4, patch_shape=(6, 6), reg_spectrum=0.3, **shared),  # many values at the floor
        FullGMM(2, means="zero", reg_covar=0, **shared),
        FullGMM(2, reg_covar=0, **shared),
        TorusGMM(3, patch_shape=(6, 6), torus_shape=(8, 8), **shared),
        TorusGMM(3, patch_shape=(6, 6), torus_shape=(8, 8), reg_spectrum=0.1, **shared),
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("which", range(7))
def test_the_likelihood_never_falls(which, dtype, rng):
    X = samples(rng, 1200, (6, 6), dtype).reshape(1200, -1)
    model = models()[which]
    with warnings.catch_warnings():
        warnings.simplefilter("error", LikelihoodWarning)
        model.fit(X)
    slack = (1e-4 if dtype == np.float32 else 1e-10) * np.abs(model.lower_bounds_).max()
    assert (np.diff(model.lower_bounds_) > -slack).all()
    best = model.lower_bound_
    model.set_params(tails="normal", **({"reg_covar": 1e-2} if which in (3, 4) else {})).fit(X)
    assert not hasattr(model, "df_")
    assert best > model.lower_bound_ + 1


def test_degrees_of_freedom_are_found(rng):
    X = np.concatenate([samples(rng, 20_000, (4,), df=(3.0, 3.0))[:10_000] + 30, rng.standard_normal((10_000, 4))])
    model = FullGMM(2, tails="t", random_state=0, tol=1e-6, max_iter=300).fit(X)
    heavy, light = np.argsort(model.df_)
    assert model.df_[heavy] == pytest.approx(3, rel=0.1)
    assert model.df_[light] > 50
    np.testing.assert_allclose(model.means_[heavy], 30, atol=0.05)
    np.testing.assert_allclose(model.covariances_[heavy], np.eye(4), atol=0.1)


@pytest.mark.parametrize("n_components", [1, 2])
def test_outliers_count_little(n_components, rng):
    centres = np.array([[0.0, 0, 0], [9, 0, 0]])[:n_components]
    X = rng.standard_normal((2000, 3)) + np.resize(centres, (2000, 3))
    X[::50] += 300
    plain, heavy = (
        FullGMM(n_components, tails=tails, random_state=0, max_iter=200).fit(X) for tails in ("normal", "t")
    )
    assert np.abs(plain.means_).max() > 5
    np.testing.assert_allclose(heavy.means_[heavy.means_[:, 0].argsort()], centres, atol=0.3)


def test_samples_have_the_tails_of_their_component(rng):
    spectra, df = oracle.symmetric_spectra(rng, 2, (6, 6)), [1.5, 20.0]
    model = ConvGMM.from_parameters([0.3, 0.7], spectra, tails="t", df=df, random_state=0)
    X, labels = model.sample(60_000)
    share = np.array([0.1, 0.5, 0.9])
    for k in range(2):
        distance = (oracle.periodograms(X[labels == k], True)[:, 1:] / spectra[k].ravel()[1:]).sum(axis=1)
        np.testing.assert_allclose(np.quantile(distance / 35, share), f.ppf(share, 35, df[k]), rtol=0.06)


def test_a_torus_draws_whole_fields_with_tails(rng):
    spectra = oracle.symmetric_spectra(rng, 1, (8, 8))
    model = TorusGMM.from_parameters([1.0], spectra, (6, 6), tails="t", df=[2.5], random_state=0)
    fields, _ = model.sample_field(4000)
    power = (fields**2).mean(axis=(1, 2))
    assert fields.shape == (4000, 8, 8)
    assert power.max() > 30 * np.median(power)


def test_pictures_show_the_scales(rng):
    model = ConvGMM(3, tails="t", random_state=0, max_iter=5).fit(samples(rng, 600, (6, 6)))
    assert set(plot_sheets(model)) == {"spectra", "scales"}


def test_gaussians_stand_for_the_components(rng):
    """Of eight equally likely parts of the scales: nearly the density, and all of the weight."""
    model = FullGMM.from_parameters([0.4, 0.6], "zero", np.stack([np.eye(3), 4 * np.eye(3)]), tails="t", df=[3.0, 8.0])
    parts = model.model_.gaussians()
    assert len(parts.log_weights) == 16
    assert np.exp(parts.log_weights).sum() == pytest.approx(1)
    X = rng.standard_normal((50, 3))
    flat = FullGMM.from_parameters(np.exp(parts.log_weights), "zero", parts.covariances)
    np.testing.assert_allclose(flat.score_samples(X), model.score_samples(X), atol=0.1)


def test_bad_tails_are_refused(rng):
    X = samples(rng, 40, (6, 6))
    with pytest.raises(ValueError, match="tails"):
        ConvGMM(2, tails="heavy").fit(X)
    with pytest.raises(ValueError, match="scales cannot be given"):
        ConvGMM(2, tails="t", scales=3).fit(X)
    for df, message in ([-1.0], "between"), ([1.0, 2.0], "shape"), ([np.nan], "between"):
        with pytest.raises(ValueError, match=message):
            ConvGMM.from_parameters([1.0], np.ones((1, 6, 6)), tails="t", df=df)
    for wrong in {"tails": "t"}, {"df": [3.0]}:
        with pytest.raises(ValueError, match="needed together"):
            ConvGMM.from_parameters([1.0], np.ones((1, 6, 6)), **wrong)
    with pytest.raises(AttributeError, match="no grid"):
        ConvGMM(2, tails="t", random_state=0).fit(X).scale_posterior(X)
    model = ConvGMM(2, tails="t", random_state=0, max_iter=3, warm_start=True).fit(X)
    model.fit(X)
    with pytest.raises(ValueError, match="other tails"):
        model.set_params(tails="normal").fit(X)
    m, P = np.ones(3), np.ones((4, 3))
    for df in ([1.0], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="degrees of freedom"):
            _core.spectral_expect(P, m, np.ones((2, 3)), np.zeros(2), None, 1, "soft", 0, 0, 0, np.array(df))

"""Components of several scales against the float64 oracle, and what EM promises of them."""

import warnings

import numpy as np
import pytest
from scipy.special import logsumexp
from threadpoolctl import threadpool_limits

import oracle
from convgmm import ConvGMM, FullGMM, LikelihoodWarning, TorusGMM, _core
from convgmm.basis import DCT, Fourier
from convgmm.plotting import plot_components, plot_sheets

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

BASES = {"fourier": Fourier, "dct": DCT}


def samples(rng, n, shape, dtype=np.float64):
    """Return rough and smooth samples, each at a contrast of its own."""
    x = rng.standard_normal((n, *shape))
    x[n // 2 :] = x[n // 2 :].cumsum(axis=-1)
    x *= np.exp(rng.standard_normal(n)).reshape(-1, *[1] * len(shape))
    return x.astype(dtype)


def parameters(rng, K, J):
    return rng.dirichlet(np.ones(K)), rng.dirichlet(np.ones(J), K), np.geomspace(0.3, 5, J)


@pytest.mark.parametrize("basis", ["fourier", "dct"])
@pytest.mark.parametrize(("shape", "remove_mean"), [((6, 6), True), ((15,), False), ((17, 19), True)], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_spectra_match_the_oracle(basis, shape, remove_mean, dtype, tolerance, rng):
    K, J, n = 5, 4, 403
    X = samples(rng, n, shape, dtype)
    spectra = oracle.symmetric_spectra(rng, K, shape)
    weights, _, scales = parameters(rng, K, J)
    start = {"weights_init": weights, "spectra_init": spectra, "scales": scales}
    options = {"tol": 0, "max_iter": 6, "prune_threshold": 0, "patch_shape": shape}
    model = ConvGMM(K, basis=basis, remove_mean=remove_mean, **start, **options).fit(X.reshape(n, -1))
    plane = oracle.SQUARES[basis](X, remove_mean)
    used = ~np.isnan(plane[0])
    plane = plane[:, used]
    course = oracle.scaled_em(
        plane, plane, weights, spectra.reshape(K, -1)[:, used], scales, np.full((K, J), 1 / J), n_iter=6,
        floor=1e-6 * plane.mean(),
    )  # fmt: skip
    np.testing.assert_allclose(model.lower_bounds_, course.lower_bounds, rtol=tolerance)
    np.testing.assert_allclose(model.scale_weights_, course.scale_weights, atol=200 * tolerance)
    np.testing.assert_allclose(model.weights_, course.weights, atol=200 * tolerance)
    np.testing.assert_allclose(
        model.spectra_.reshape(K, -1)[:, used], course.variances, rtol=2000 * tolerance, atol=tolerance
    )


@pytest.mark.parametrize("shape", [(12,), (100,)], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-9)])
def test_full_covariances_match_the_oracle(shape, dtype, tolerance, rng):
    """100 values are pruned in several stages, and in float32 computed in it."""
    K, J, n = 4, 5, 1500
    X = samples(rng, n, shape, dtype)
    factors = rng.standard_normal((K, shape[0], 2 * shape[0]))
    covariances = factors @ factors.transpose(0, 2, 1) / shape[0]
    weights, _, scales = parameters(rng, K, J)
    weight = rng.uniform(0.5, 2, n)
    start = {"weights_init": weights, "covariances_init": covariances, "scales": scales}
    options = {"tol": 0, "max_iter": 4, "prune_threshold": 0, "reg_covar": 0}
    model = FullGMM(K, means="zero", **start, **options).fit(X, sample_weight=weight)
    course = oracle.scaled_em(
        None, X.astype(np.float64), weights, covariances, scales, np.full((K, J), 1 / J), n_iter=4, sample_weight=weight
    )
    np.testing.assert_allclose(model.lower_bounds_, course.lower_bounds, rtol=tolerance)
    np.testing.assert_allclose(model.scale_weights_, course.scale_weights, atol=100 * tolerance)
    np.testing.assert_allclose(model.covariances_, course.variances, rtol=0, atol=1000 * tolerance)


def made(kind, rng, K=3, J=4, **options):
    """Return a mixture of random parameters, and log N(x; 0, s_j² C_k) of samples as a function."""
    weights, scale_weights, scales = parameters(rng, K, J)
    scale_weights[0, 0] = 0
    scale_weights /= scale_weights.sum(axis=1, keepdims=True)
    shared = {"scales": scales, "scale_weights": scale_weights, **options}
    if kind == "full":
        factors = rng.standard_normal((K, 36, 72))
        covariances = factors @ factors.transpose(0, 2, 1) / 36
        model = FullGMM.from_parameters(weights, "zero", covariances, **shared)
        determinants = np.linalg.slogdet(covariances)[1]

        def distances(X):
            flat = X.reshape(len(X), -1).astype(np.float64)
            return np.stack([(flat * np.linalg.solve(C, flat.T).T).sum(axis=1) for C in covariances], axis=1)

        return model, lambda X: oracle.scaled_densities(distances(X), determinants, scales, 36)
    spectra = oracle.symmetric_spectra(rng, K, (6, 6))
    model = ConvGMM.from_parameters(weights, spectra, basis=kind, **shared)
    S = spectra.reshape(K, -1)[:, 1:]
    return model, lambda X: oracle.scaled_densities(
        oracle.SQUARES[kind](X, True)[:, 1:] @ (1 / S).T, np.log(S).sum(axis=1), scales, 35
    )


@pytest.mark.parametrize("kind", ["fourier", "dct", "full"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-9)])
def test_answers_match_the_oracle(kind, dtype, tolerance, rng):
    model, densities = made(kind, rng)
    X = samples(rng, 333, (6, 6), dtype).reshape((333, 36) if kind == "full" else (333, 6, 6))
    with np.errstate(divide="ignore"):
        of_scales = densities(X) + np.log(model.scale_weights_)
        joint = of_scales + np.log(model.weights_)[:, None]
    total = logsumexp(joint, axis=(1, 2))
    np.testing.assert_allclose(model.log_density(X), logsumexp(of_scales, axis=2), rtol=tolerance)
    np.testing.assert_allclose(model.score_samples(X), total, rtol=tolerance)
    gamma = np.exp(joint - total[:, None, None])
    np.testing.assert_allclose(model.predict_proba(X), gamma.sum(axis=2), atol=10 * tolerance)
    np.testing.assert_allclose(model.scale_posterior(X), gamma.sum(axis=1), atol=1e-4)
    p = 2 + 3 * (3 + (35 if kind == "dct" else 21 if kind == "fourier" else 36 * 37 // 2))
    if kind != "fourier":
        assert model.model_.n_parameters() == p
    assert model.bic(X) == pytest.approx(model.model_.n_parameters() * np.log(333) - 2 * total.sum(), rel=1e-4)


@pytest.mark.parametrize("kind", ["fourier", "full"])
def test_a_distant_sample_has_a_density(kind, rng):
    model, _ = made(kind, rng)
    X = samples(rng, 40, (6, 6), np.float32).reshape((40, 36) if kind == "full" else (40, 6, 6))
    X[3] *= 1e19
    assert np.isfinite(model.score_samples(X)[np.arange(40) != 3]).all()
    assert model.predict_proba(X)[3].sum() == pytest.approx(1)


@pytest.mark.parametrize("assignment", ["hard", "draw"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_component_is_chosen_and_its_scales_share_the_sample(assignment, dtype, rng):
    K, J, n = 4, 3, 261
    X = samples(rng, n, (6, 6), dtype)
    basis = Fourier((6, 6), True)
    weights, scale_weights, scales = parameters(rng, K, J)
    spectra = basis.from_plane(oracle.symmetric_spectra(rng, K, (6, 6)))
    m, P = basis.multiplicities, basis.coefficients(X.reshape(n, -1), 1)
    constants = np.log(weights) - 0.5 * np.log(2 * np.pi * spectra) @ m
    given = (scales**2, np.log(scale_weights))
    share, power, _, shares = _core.spectral_expect(P, m, spectra, constants, None, 2, assignment, 7, 1, 0, given)
    assert share.sum() == n
    assert (share == np.round(share)).all()
    np.testing.assert_allclose(shares.sum(axis=1), share, rtol=1e-5)
    terms = -0.5 * ((P.astype(np.float64) @ (m / spectra).T)[:, :, None] / scales**2 + 35 * np.log(scales**2))
    joint = terms + np.log(scale_weights) + constants[:, None]
    if assignment == "draw":
        return
    chosen = logsumexp(joint, axis=2).argmax(axis=1)
    rho = np.exp(joint - logsumexp(joint, axis=2, keepdims=True))[np.arange(n), chosen]
    expected = np.zeros((K, J))
    np.add.at(expected, chosen, rho)
    np.testing.assert_allclose(shares, expected, atol=1e-2 if dtype == np.float32 else 1e-9)
    moments = np.zeros((K, len(m)))
    np.add.at(moments, chosen, (rho / scales**2).sum(axis=1)[:, None] * P)
    np.testing.assert_allclose(power, moments, rtol=1e-3 if dtype == np.float32 else 1e-9)


def scaled_models(**options):
    shared = {"scales": 6, "random_state": 0, "tol": 0, "max_iter": 25} | options
    return [
        ConvGMM(4, patch_shape=(6, 6), **shared),
        ConvGMM(4, patch_shape=(6, 6), basis="dct", **shared),
        FullGMM(2, means="zero", reg_covar=0, **shared),
        TorusGMM(3, patch_shape=(6, 6), torus_shape=(8, 8), **shared),
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("which", range(4))
def test_the_likelihood_never_falls(which, dtype, rng):
    X = samples(rng, 1200, (6, 6), dtype).reshape(1200, -1)
    model = scaled_models()[which]
    with warnings.catch_warnings():
        warnings.simplefilter("error", LikelihoodWarning)
        model.fit(X)
    slack = (1e-4 if dtype == np.float32 else 1e-10) * np.abs(model.lower_bounds_).max()
    assert (np.diff(model.lower_bounds_) > -slack).all()
    assert model.scales_.shape == (6,)
    np.testing.assert_allclose(model.scale_weights_.sum(axis=1), 1)
    best = model.lower_bound_
    one = {"scales": 1} | ({"reg_covar": 1.0} if which == 2 else {})  # without, one component takes two samples
    model.set_params(**one).fit(X)
    assert not hasattr(model, "scales_")
    assert best > model.lower_bound_ + 1


def test_a_chosen_grid_spans_all_contrasts_but_a_share(rng):
    X = samples(rng, 3000, (6, 6))
    model = ConvGMM(2, scales=7, random_state=0, max_iter=2).fit(X)
    contrast = np.sqrt(((X - X.mean(axis=(1, 2), keepdims=True)) ** 2).mean(axis=(1, 2)))
    contrast /= np.median(contrast)
    assert np.mean(contrast < model.scales_[0]) == pytest.approx(4 / 7**2, abs=0.01)
    assert np.mean(contrast > model.scales_[-1]) == pytest.approx(4 / 7**2, abs=0.01)
    np.testing.assert_allclose(np.diff(np.log(model.scales_)), np.log(model.scales_[1] / model.scales_[0]))
    same = ConvGMM(2, scales=7, random_state=0, max_iter=2).fit(X / contrast[:, None, None])
    assert (np.diff(same.scales_) > 0).all()


def test_samples_have_the_contrasts_of_their_scales(rng):
    model, _ = made("fourier", rng, random_state=3)
    X, components = model.sample(30000)
    for k in range(3):
        power = (oracle.periodograms(X[components == k], True)[:, 1:]).mean(axis=0)
        expected = model.spectra_[k].ravel()[1:] * (model.scale_weights_[k] @ model.scales_**2)
        np.testing.assert_allclose(power, expected, rtol=0.25)


def test_divergence_is_that_of_the_covariances(rng):
    model, _ = made("full", rng)
    covariances = model.covariances_ * (model.scale_weights_ @ model.scales_**2)[:, None, None]
    plain = FullGMM.from_parameters(model.weights_, "zero", covariances)
    np.testing.assert_allclose(model.model_.divergence(), plain.model_.divergence(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["fourier", "dct", "full"])
def test_divergence_of_shapes_does_not_see_contrast(name, rng):
    model, _ = made(name, rng)
    K, family, arrays = model.n_components_, model.model_.family, model.model_.arrays
    found = model.model_.shape_divergence()
    brighter = family.single.with_variance(arrays, np.array([0.2, 7, 30])[:K])
    np.testing.assert_allclose(family.shape_divergence(brighter), found, rtol=1e-6, atol=1e-8)
    at = [family.single.with_variance(arrays, q ** np.eye(K)[1]) for q in np.geomspace(1e-3, 1e3, 801)]
    least = min(family.single.divergence(each)[0, 1] for each in at)
    assert found[0, 1] == pytest.approx(least, rel=1e-2)
    assert found[0, 1] <= least


def test_figures_of_a_mixture_do_not_depend_on_other_libraries_threads(rng):
    power = rng.random((64, 28, 28)) + 0.1
    power += np.roll(power[:, ::-1, ::-1], (1, 1), (1, 2))
    spectra = ConvGMM.from_parameters(np.full(64, 1 / 64), power)
    factors = rng.standard_normal((16, 160, 160)) / 160**0.5
    covariances = factors @ factors.transpose(0, 2, 1) + 0.1 * np.eye(160)
    full = FullGMM.from_parameters(np.full(16, 1 / 16), rng.standard_normal((16, 160)), covariances)
    for ask in (
        spectra.model_.divergence,
        full.model_.divergence,
        full.model_.effective_ranks,
        lambda: full.precisions_,
    ):
        found = []
        for n_threads in (1, 2):
            with threadpool_limits(n_threads):
                found.append(ask())
        np.testing.assert_array_equal(*found)


def test_divergence_of_shapes_is_the_divergence_where_there_are_means(rng):
    model = FullGMM(2, random_state=0).fit(rng.standard_normal((50, 3)))
    np.testing.assert_array_equal(model.model_.shape_divergence(), model.model_.divergence())


def test_pictures_show_the_scales(rng):
    model, _ = made("fourier", rng)
    assert set(plot_sheets(model)) == {"spectra", "scales"}
    assert len(plot_components(model, samples(rng, 50, (6, 6)))) == 1


def test_bad_scales_are_refused(rng):
    X = samples(rng, 60, (6, 6))
    for scales, message in ([0.0, 1.0], "positive"), ([1.0, 1.0], "different"), ([[1.0]], "shape"), ([], "shape"):
        with pytest.raises(ValueError, match=message):
            ConvGMM(2, scales=scales).fit(X)
    with pytest.raises(ValueError, match="scales"):
        ConvGMM(2, scales=0).fit(X)
    with pytest.raises(ValueError, match='means="zero"'):
        FullGMM(2, scales=3).fit(X)
    with pytest.raises(ValueError, match="zero everywhere"):
        FullGMM(2, means="zero", scales=3).fit(np.zeros((20, 3)))
    with pytest.raises(ValueError, match="together"):
        ConvGMM.from_parameters([1.0], np.ones((1, 6, 6)), scales=[1.0, 2.0])
    with pytest.raises(ValueError, match="rows must sum"):
        ConvGMM.from_parameters([1.0], np.ones((1, 6, 6)), scales=[1.0, 2.0], scale_weights=[[0.5, 0.6]])
    with pytest.raises(AttributeError, match="no grid"):
        ConvGMM(2, random_state=0).fit(X).scale_posterior(X)
    model = ConvGMM(2, scales=3, random_state=0, max_iter=3, warm_start=True).fit(X)
    model.fit(X)
    with pytest.raises(ValueError, match="warm_start"):
        model.set_params(scales=4).fit(X)

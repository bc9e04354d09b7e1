"""Windows of fields on a torus against the float64 oracle, circulant components and full covariances."""

import numpy as np
import pytest

import oracle
from conftest import trials
from convgmm import ConvGMM, FullGMM, TorusGMM, _core
from convgmm.datasets import extract_patches, load_sample_images
from convgmm.families import CollapseError
from convgmm.families.torus import Torus, TorusFrame

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def fields(rng, n, shape, dtype=np.float64):
    """Return patches of two stationary kinds."""
    X = rng.standard_normal((n, *shape))
    X[n // 2 :] = X[n // 2 :].cumsum(axis=-1)
    return X.astype(dtype)


def model(spectra, **options):
    options = {"tol": 0, "max_iter": 6, "prune_threshold": 0, "inner_iter": 3} | options
    return TorusGMM(len(spectra), torus_shape=spectra.shape[1:], spectra_init=spectra, **options)


@pytest.mark.parametrize("remove_mean", [True, False])
@pytest.mark.parametrize(
    ("shape", "torus"), [((9,), (9,)), ((7,), (16,)), ((4, 5), (7, 5)), ((8, 8), (10, 9)), ((2, 3, 2), (4, 5, 3))]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-9)])
def test_iterations_match_the_oracle(shape, torus, remove_mean, dtype, tolerance, rng):
    X = fields(rng, 300, shape, dtype)
    spectra = oracle.symmetric_spectra(rng, 3, torus) * X.var()
    weight = rng.uniform(0.5, 2, len(X))
    course = oracle.torus_em(
        X, np.full(3, 1 / 3), spectra, remove_mean=remove_mean, n_iter=6, inner_iter=3, reg_spectrum=1e-6,
        sample_weight=weight,
    )  # fmt: skip
    options = {} if X.ndim > 2 else {"patch_shape": shape}
    fitted = model(spectra, remove_mean=remove_mean, **options).fit(X, sample_weight=weight)
    np.testing.assert_allclose(fitted.lower_bounds_, course.lower_bounds, rtol=tolerance, atol=X[0].size * tolerance)
    if dtype == np.float64:
        np.testing.assert_allclose(fitted.weights_, course.weights, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(fitted.spectra_, course.spectra, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("trial", trials(6, 60))
def test_the_likelihood_never_falls(trial):
    rng = np.random.default_rng(trial)
    n_axes = 1 + trial % 3
    shape = tuple(int(size) for size in rng.integers(2, 7 if n_axes < 3 else 4, n_axes))
    torus = tuple(size + int(more) for size, more in zip(shape, rng.integers(0, 8, n_axes), strict=True))
    X = fields(rng, 150, shape, [np.float32, np.float64][trial % 2])
    fitted = TorusGMM(
        4, torus_shape=torus, patch_shape=shape, remove_mean=bool(rng.integers(2)), tol=0, max_iter=40,
        prune_threshold=0, inner_iter=int(rng.integers(1, 9)), random_state=trial,
        init=["kmeans++", "random"][trial % 2],
    ).fit(X)  # fmt: skip
    rounding = 8 * np.finfo(np.float64).eps * (np.abs(fitted.lower_bounds_).max() + X[0].size) + 4e-15
    assert np.diff(fitted.lower_bounds_).min() >= -rounding
    assert fitted.lower_bound_ > fitted.lower_bounds_[0]


@pytest.mark.parametrize("remove_mean", [True, False])
def test_a_torus_of_the_patchs_size_is_the_circulant_model(remove_mean, rng):
    X = fields(rng, 200, (5, 6))
    spectra = oracle.symmetric_spectra(rng, 2, (5, 6))
    circulant = ConvGMM.from_parameters([0.3, 0.7], spectra, remove_mean=remove_mean)
    torus = TorusGMM.from_parameters([0.3, 0.7], spectra, (5, 6), remove_mean=remove_mean)
    np.testing.assert_allclose(torus.log_density(X), circulant.log_density(X), rtol=1e-10)
    np.testing.assert_allclose(torus.model_.divergence(), circulant.model_.divergence(), rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(torus.filters(), circulant.filters())
    assert torus.model_.n_parameters() == circulant.model_.n_parameters()
    options = {"remove_mean": remove_mean, "spectra_init": spectra, "tol": 0, "max_iter": 60}
    circulant = ConvGMM(2, **options).fit(X)
    torus = TorusGMM(2, torus_shape=(5, 6), inner_iter=6, **options).fit(X)
    np.testing.assert_allclose(torus.lower_bound_, circulant.lower_bound_, rtol=1e-6)
    np.testing.assert_allclose(torus.spectra_, circulant.spectra_, rtol=1e-2, atol=1e-12)


def test_densities_are_those_of_its_covariances(rng):
    X = fields(rng, 100, (4, 4))
    fitted = TorusGMM(2, remove_mean=False, random_state=0).fit(X)
    assert fitted.spectra_.shape == (2, 8, 8)  # twice the patch
    full = FullGMM.from_parameters(fitted.weights_, np.zeros((2, 16)), fitted.covariances_)
    np.testing.assert_allclose(full.log_density(X.reshape(100, 16)), fitted.log_density(X), rtol=1e-9)
    window = oracle.torus_window((4, 4), (8, 8))
    C = np.einsum("xw,kw,yw->kxy", window, fitted.spectra_.reshape(2, -1), window.conj()).real
    np.testing.assert_allclose(fitted.covariances_, C, atol=1e-12)
    free = TorusGMM.from_parameters(fitted.weights_, fitted.spectra_, (4, 4))
    centring = np.eye(16) - 1 / 16
    planes = fitted.spectra_.copy()
    planes[:, 0, 0] = 0
    C = np.einsum("xw,kw,yw->kxy", window, planes.reshape(2, -1), window.conj()).real
    np.testing.assert_allclose(free.covariances_, centring @ C @ centring, atol=1e-12)
    assert fitted.model_.n_parameters() == 1 + 2 * 25


def test_windows_describe_photographs_better_than_circulant_patches():
    patches = extract_patches(load_sample_images(), (8, 8), 6000, random_state=0)
    rng = np.random.default_rng(0)
    patches = (patches * 255 + rng.uniform(size=patches.shape)).astype(np.float32) / 256  # not finer than they are
    train, test = patches[:4000], patches[4000:]
    circulant = ConvGMM(4, random_state=0, max_iter=20).fit(train)
    torus = TorusGMM(4, torus_shape=(12, 12), random_state=0, max_iter=20).fit(train)
    assert torus.score(test) > circulant.score(test) + 5


@pytest.mark.parametrize("remove_mean", [True, False])
def test_samples_have_the_covariance_of_the_component(remove_mean, rng):
    spectra = oracle.symmetric_spectra(rng, 1, (6, 5)) * np.linspace(1, 4, 5)[[0, 1, 2, 2, 1]]
    mixture = TorusGMM.from_parameters([1.0], spectra, (3, 4), remove_mean=remove_mean, random_state=0)
    drawn = mixture.sample(40_000)[0].reshape(-1, 12)
    np.testing.assert_allclose(drawn.T @ drawn / len(drawn), mixture.covariances_[0], atol=0.05)
    whole, components = mixture.sample_field(20_000)
    assert whole.shape == (20_000, 6, 5)
    assert not components.any()
    power = (np.abs(np.fft.fft2(whole, norm="ortho")) ** 2).mean(axis=0)
    np.testing.assert_allclose(power, mixture.spectra_[0], rtol=0.06, atol=1e-9)


@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 6, 6), (5.0, 6), "ab"])
def test_a_torus_smaller_than_the_patch_is_refused(shape, rng):
    with pytest.raises(ValueError, match="torus_shape"):
        TorusGMM(2, torus_shape=shape).fit(fields(rng, 50, (5, 6)))


def test_bad_arrays_are_refused(rng):
    spectra = oracle.symmetric_spectra(rng, 2, (6, 6))
    lopsided = spectra.copy()
    lopsided[0, 1, 2] *= 2
    for planes, message in ((lopsided, "ω and −ω"), (-spectra, "positive"), (spectra[0, 0], "shape")):
        with pytest.raises(ValueError, match=message):
            TorusGMM.from_parameters([0.5, 0.5], planes, (4, 4))
    with pytest.raises(ValueError, match="torus_shape"):
        TorusGMM.from_parameters([0.5, 0.5], spectra, (7, 4))
    fitted = TorusGMM(2, torus_shape=(6, 6), random_state=0, warm_start=True).fit(fields(rng, 50, (4, 4)))
    with pytest.raises(ValueError, match="torus_shape"):
        fitted.set_params(torus_shape=(7, 7)).fit(fields(rng, 50, (4, 4)))


def test_an_m_step_nears_the_likeliest_spectrum_whatever_the_steps_pass(rng):
    # Many inner steps from a white spectrum reach a point that no spectrum near it betters.
    shape, torus = (4, 4), (7, 7)
    window = oracle.torus_window(shape, torus)
    truth = oracle.symmetric_spectra(rng, 1, torus)[0].ravel()
    S = ((window * truth) @ window.conj().T).real
    family = Torus(shape, TorusGMM(torus_shape=torus, remove_mean=False)._family(shape).basis)
    spectra = np.ones((1, len(family.basis.multiplicities)))
    bounds = []
    for _ in range(300):
        C = _core.torus_covariances(spectra, *family._window(np.eye(16)), 1)[0]
        bounds.append(-0.5 * (np.linalg.slogdet(C)[1] + np.trace(np.linalg.solve(C, S))))
        spectra = _core.torus_maximize(S[None], spectra, *family._window(np.eye(16)), 1e-9, 1, 1)
    assert np.diff(bounds).min() >= -1e-12
    best = -0.5 * (np.linalg.slogdet(S)[1] + 16)  # S is the covariance of a field
    assert 0 <= best - bounds[-1] < 1e-5 < bounds[-1] - bounds[20]


@pytest.mark.parametrize("remove_mean", [True, False])
@pytest.mark.parametrize(
    ("shape", "torus"),
    [((4, 4), (8, 8)), ((8, 8), (16, 16)), ((8, 8), (12, 12)), ((2, 5), (16, 5)), ((4,), (6,)), ((1, 3), (2, 4))],
)
def test_parameters_are_counted_that_samples_can_tell_apart(shape, torus, remove_mean):
    # The rank of the covariances as a linear function of the spectrum.
    mixture = TorusGMM.from_parameters([1.0], np.ones((1, *torus)), shape, remove_mean=remove_mean)
    window, n = oracle.torus_window(shape, torus), np.prod(shape)
    seen = (np.eye(n) - 1 / n if remove_mean else np.eye(n)) @ window
    covariances = np.einsum("xw,yw->wxy", seen, seen.conj()).real.reshape(window.shape[1], -1)
    assert mixture.model_.n_parameters() == np.linalg.matrix_rank(covariances)


def test_m_steps_keep_to_the_threads_that_are_asked_for(monkeypatch, rng):
    asked = []

    def recording(call):
        return lambda *given: asked.append(given[-1]) or call(*given)

    for name in ("torus_maximize", "torus_covariances"):
        monkeypatch.setattr(_core, name, recording(getattr(_core, name)))
    TorusGMM(2, torus_shape=(6, 6), max_iter=3, random_state=0, n_threads=1).fit(fields(rng, 60, (4, 4)))
    assert set(asked) == {1}


def test_an_m_step_without_an_inverse_is_a_collapse(rng):
    family = Torus((3, 3), TorusGMM(torus_shape=(5, 5))._family((3, 3)).basis)
    mixture = TorusGMM.from_parameters([1.0], np.ones((1, 5, 5)), (3, 3))
    frame = TorusFrame(0.0, mixture.model_.frame.axes)
    parameters = family.from_arrays(mixture.model_.arrays, frame, 1)
    statistics = family.expected(parameters, np.ones(1), frame)
    parameters.spectra[:] = 0
    with pytest.raises(CollapseError, match="reg_spectrum"):
        family.maximize(statistics, parameters, frame)

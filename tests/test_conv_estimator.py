"""What the convolutional mixture adds to the contract of every estimator."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import oracle
from convgmm import ConvGMM, FullGMM

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def patches(rng):
    x = rng.standard_normal((600, 8, 8))
    x[300:] = x[300:].cumsum(axis=2)
    return x


def test_signals_images_volumes_and_flattened(patches, rng):
    for X in (patches[:, 0], patches, rng.standard_normal((100, 3, 4, 5))):
        model = ConvGMM(2, random_state=0).fit(X)
        assert model.spectra_.shape == (2, *X.shape[1:])
        assert model.transform(X).shape == (len(X), 2)
        flat = ConvGMM(2, random_state=0, patch_shape=X.shape[1:]).fit(X.reshape(len(X), -1))
        np.testing.assert_array_equal(flat.spectra_, model.spectra_)
        np.testing.assert_array_equal(flat.predict(X), model.predict(X))
        assert model.n_features_in_ == np.prod(X.shape[1:])


def test_outputs(patches):
    model = ConvGMM(3, random_state=0).fit(patches)
    log_density = model.log_density(patches)
    np.testing.assert_allclose(
        log_density, oracle.log_density(oracle.periodograms(patches, True), model.spectra_), rtol=1e-10
    )
    expected = {
        "log_density": log_density,
        "standardized": (log_density - log_density.mean(axis=1, keepdims=True))
        / log_density.std(axis=1, keepdims=True),
        "likelihood": np.exp(log_density - np.logaddexp.reduce(log_density, axis=1, keepdims=True)),
        "posterior": model.predict_proba(patches),
    }
    for output, values in expected.items():
        np.testing.assert_allclose(model.set_params(output=output).transform(patches), values, rtol=1e-8, atol=1e-12)
    joint = log_density + np.log(model.weights_)
    np.testing.assert_allclose(model.score_samples(patches), np.logaddexp.reduce(joint, axis=1))
    np.testing.assert_array_equal(model.predict(patches), joint.argmax(axis=1))
    assert model.score(patches) == pytest.approx(model.score_samples(patches).mean())


def test_one_component_is_standardized_to_zero(patches):
    model = ConvGMM(1, output="standardized").fit(patches)
    np.testing.assert_array_equal(model.transform(patches), np.zeros((600, 1)))


@pytest.mark.parametrize("basis", ["fourier", "dct"])
def test_sample_has_the_spectra_of_its_components(basis, patches):
    model = ConvGMM(2, basis=basis, random_state=0).fit(patches)
    X, components = model.sample(20000)
    assert X.shape == (20000, 8, 8)
    assert components.shape == (20000,)
    np.testing.assert_allclose(np.bincount(components) / 20000, model.weights_, atol=0.02)
    np.testing.assert_allclose(X.mean(axis=(1, 2)), 0, atol=1e-12)
    for k in range(2):
        found = np.nan_to_num(oracle.SQUARES[basis](X[components == k], True)).mean(axis=0)
        np.testing.assert_allclose(found, model.spectra_[k].ravel(), rtol=0.15, atol=1e-12)
    assert np.ptp(components[:50]) > 0  # not sorted by component
    np.testing.assert_array_equal(model.sample(5)[0], model.sample(5)[0])


def test_filters_whiten(patches):
    model = ConvGMM(2, random_state=0).fit(patches)
    filters = model.filters()
    gain = np.abs(np.fft.fft2(filters)) ** 2
    np.testing.assert_allclose(gain, model.filter_spectra_, atol=1e-12)
    np.testing.assert_allclose(model.filter_spectra_[:, 1:] * model.spectra_[:, 1:], 1)
    assert (model.filter_spectra_[:, 0, 0] == 0).all()
    # ‖f ∗ x‖² is the squared Mahalanobis distance
    x = patches[0] - patches[0].mean()
    filtered = np.fft.ifft2(np.fft.fft2(x) * np.fft.fft2(filters[1])).real
    plane = np.nan_to_num(oracle.periodograms(patches[:1], True)).reshape(8, 8)
    np.testing.assert_allclose((filtered**2).sum(), (plane * model.filter_spectra_[1]).sum())


def test_cosines_have_no_filters(patches):
    model = ConvGMM(2, basis="dct", random_state=0).fit(patches)
    for question in (model.filters, lambda: model.filter_spectra_):
        with pytest.raises(AttributeError, match="not stationary"):
            question()
    assert not hasattr(model, "filter_spectra_")
    with pytest.raises(ValueError, match="warm_start=False"):
        model.set_params(basis="fourier", warm_start=True).fit(patches)
    made = ConvGMM.from_parameters(model.weights_, model.spectra_, basis="dct")
    np.testing.assert_allclose(made.score_samples(patches), model.score_samples(patches))
    assert model.score(patches) != ConvGMM(2, random_state=0).fit(patches).score(patches)


def test_information_criteria(patches):
    model = ConvGMM(2, random_state=0).fit(patches)
    p = 2 * 33 + 1
    total = model.score_samples(patches).sum()
    assert model.aic(patches) == pytest.approx(2 * p - 2 * total)
    assert model.bic(patches) == pytest.approx(p * np.log(600) - 2 * total)


def test_top_samples_tells_saturated_posteriors_apart(patches):
    patches = patches * np.where(np.arange(600) < 300, 1, 30)[:, None, None]
    model = ConvGMM(2, random_state=0).fit(patches)
    joint = model.log_density(patches) + np.log(model.weights_)
    expected = np.argsort(joint[:, 1] - joint[:, 0])
    top = model.top_samples(patches, 7)
    np.testing.assert_array_equal(top, [expected[:7], expected[::-1][:7]])
    assert model.predict_proba(patches)[top[0], 0].min() == 1.0  # by posterior alone they would tie
    assert ConvGMM(1).fit(patches).top_samples(patches, 3).shape == (1, 3)
    assert model.top_samples(patches[:4], 10).shape == (2, 4)
    with pytest.raises(ValueError, match="at least 1"):
        model.top_samples(patches, 0)


def test_warm_start_refuses_another_shape(patches):
    model = ConvGMM(2, random_state=0, warm_start=True).fit(patches)
    with pytest.raises(ValueError, match="warm_start"):
        model.fit(patches[:, :, :4])


def test_warm_start_refuses_what_its_parameters_do_not_fit(patches):
    model = ConvGMM(2, random_state=0, warm_start=True).fit(patches)
    with pytest.raises(ValueError, match="remove_mean"):
        model.set_params(remove_mean=False).fit(patches)
    full = FullGMM(2, random_state=0, warm_start=True).fit(patches[:, 0])
    with pytest.raises(ValueError, match="zero"):
        full.set_params(means="zero").fit(patches[:, 0])


def test_n_init_keeps_the_best(patches):
    rng = np.random.RandomState(4)
    singles = [ConvGMM(5, tol=0, max_iter=6, init="random", random_state=rng).fit(patches) for _ in range(4)]
    best = ConvGMM(5, tol=0, max_iter=6, init="random", random_state=np.random.RandomState(4), n_init=4).fit(patches)
    assert best.lower_bound_ == max(model.lower_bound_ for model in singles)


GOOD = np.random.default_rng(0).standard_normal((40, 6, 6))
WITH = {"nan": np.nan, "inf": np.inf}


def spoiled(value):
    X = GOOD.copy()
    X[3, 2, 1] = value
    return X


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (spoiled(np.nan), "NaN"),
        (spoiled(np.inf), "infinity"),
        (GOOD + 1j, "[Cc]omplex"),
        (np.full((5, 4), "text"), "convert"),
        (np.empty((0, 6, 6)), "0 sample"),
        (GOOD[:1], "n_samples = 1|1 sample"),
        (GOOD[:2], "n_components=3"),
        (GOOD[0, 0], "1D array"),
        (GOOD.reshape(1, 40, 6, 3, 2), "dim <= 4"),
        (np.ones((30, 6, 6)), "30 of 30 samples are constant"),
        (GOOD.astype(np.float32) * np.float32(1e18) * np.float32(1e5), "float64"),
        (GOOD.astype(np.float32) * np.float32(1e-25), "float64"),
        (GOOD[:, :1, :1], "remove_mean"),
        (None, "Expected 2D"),
    ],
    ids=[
        "nan",
        "infinite",
        "complex",
        "text",
        "empty",
        "one",
        "few",
        "1-D",
        "5-D",
        "constant",
        "huge",
        "tiny",
        "1",
        "None",
    ],
)
def test_bad_data_is_refused(X, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ConvGMM(3, random_state=0).fit(X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_components": 0}, "n_components"),
        ({"n_components": 2.5}, "n_components"),
        ({"patch_shape": (5, 6)}, "patch_shape"),
        ({"patch_shape": (2, 3, 3, 2)}, "patch_shape"),
        ({"patch_shape": (0, 6)}, "patch_shape"),
        ({"init": "best"}, "init"),
        ({"weights_init": [0.5, 0.6]}, "sum to 1"),
        ({"weights_init": [1.0]}, "weights_init"),
        ({"weights_init": [1.5, -0.5]}, "negative"),
        ({"spectra_init": np.ones((2, 6))}, "spectra_init"),
        ({"spectra_init": np.ones((3, 6, 6))}, "spectra_init"),
        ({"spectra_init": -np.ones((2, 6, 6))}, "positive"),
        ({"spectra_init": np.full((2, 6, 6), np.nan)}, "finite"),
        ({"spectra_init": np.arange(1.0, 73).reshape(2, 6, 6)}, "−ω"),
        ({"n_init": 0}, "n_init"),
        ({"max_iter": 0}, "max_iter"),
        ({"tol": -1}, "tol"),
        ({"reg_spectrum": 0}, "reg_spectrum"),
        ({"prune_threshold": 1.0}, "prune_threshold"),
        ({"output": "density"}, "output"),
        ({"n_threads": 0}, "n_threads"),
        ({"random_state": "seed"}, "random_state"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ConvGMM(**({"n_components": 2} | options)).fit(GOOD)


def test_wrong_shapes_after_fitting_are_refused():
    model = ConvGMM(2, random_state=0).fit(GOOD)
    for X in (GOOD[:, :5], GOOD.reshape(40, 36), GOOD[:, :, :, None], GOOD.reshape(40, 4, 9)):
        with pytest.raises(ValueError, match=r"shape|features"):
            model.predict(X)


def test_a_sample_beyond_the_number_format_is_named():
    model = ConvGMM(2, random_state=0).fit(GOOD)
    far = GOOD.copy()
    far[7] *= 1e200
    for question in ("predict", "score_samples", "log_density", "transform"):
        with pytest.raises(ValueError, match="sample 7"):
            getattr(model, question)(far)


def test_some_constant_samples_warn():
    X = GOOD.copy()
    X[:3] = 1
    with pytest.warns(UserWarning, match="3 of 40 samples are constant"):
        ConvGMM(2, random_state=0).fit(X)


def test_either_start_may_be_given_alone():
    spectra = oracle.symmetric_spectra(np.random.default_rng(1), 2, (6, 6))
    a = ConvGMM(2, spectra_init=spectra, max_iter=1).fit(GOOD)
    b = ConvGMM(2, spectra_init=spectra, weights_init=[0.5, 0.5], max_iter=1).fit(GOOD)
    np.testing.assert_array_equal(a.spectra_, b.spectra_)
    spectra[:, 0, 0] = np.nan  # ignored with remove_mean
    c = ConvGMM(2, spectra_init=spectra, max_iter=1).fit(GOOD)
    np.testing.assert_array_equal(a.spectra_, c.spectra_)
    ConvGMM(2, weights_init=[0.9, 0.1], random_state=0).fit(GOOD)


def test_not_converged_is_said():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        with pytest.raises(ConvergenceWarning, match="max_iter"):
            ConvGMM(2, max_iter=1, random_state=0).fit(GOOD)


def test_made_of_parameters_it_is_as_good_as_fitted(patches):
    fitted = ConvGMM(3, random_state=0, max_iter=5).fit(patches)
    made = ConvGMM.from_parameters(fitted.weights_, fitted.spectra_, random_state=0)
    assert made.n_components == 3
    assert (made.n_iter_, made.converged_, made.pruned_) == (0, False, [])
    for question in ("predict_proba", "log_density", "score_samples", "transform", "top_samples"):
        np.testing.assert_array_equal(getattr(made, question)(patches), getattr(fitted, question)(patches))
    np.testing.assert_array_equal(made.filters(), fitted.filters())
    np.testing.assert_array_equal(made.sample(4)[0], fitted.sample(4)[0])
    assert made.bic(patches) == fitted.bic(patches)
    on = made.set_params(warm_start=True, max_iter=3, tol=0).fit(patches)
    given = ConvGMM(3, weights_init=fitted.weights_, spectra_init=fitted.spectra_, max_iter=3, tol=0).fit(patches)
    np.testing.assert_array_equal(on.spectra_, given.spectra_)
    spectra = np.where(fitted.spectra_ == 0, np.nan, fitted.spectra_)  # what is ignored may be anything
    np.testing.assert_array_equal(ConvGMM.from_parameters(fitted.weights_, spectra).spectra_, fitted.spectra_)


@pytest.mark.parametrize(
    ("weights", "spectra", "message"),
    [
        ([0.5, 0.6], np.ones((2, 4)), "weights must sum to 1"),
        ([0.5, np.nan], np.ones((2, 4)), "weights must be finite"),
        ([1.0], np.ones((2, 4)), "spectra has shape"),
        ([0.5, 0.5], np.full((2, 4), np.nan), "spectra must be finite"),
        ([0.5, 0.5], np.zeros((2, 4)), "positive"),
        ([0.5, 0.5], np.ones(4), "spectra has shape"),
        ([0.5, 0.5], np.arange(1.0, 9).reshape(2, 4), "−ω"),
        ([], np.ones((0, 4)), "weights has shape"),
    ],
)
def test_parameters_that_are_no_mixture_are_refused(weights, spectra, message):
    with pytest.raises(ValueError, match=message):
        ConvGMM.from_parameters(weights, spectra)


def test_attributes_set_by_hand_are_checked_and_used(patches):
    model = ConvGMM(2, random_state=0, max_iter=3).fit(patches)
    with pytest.raises(ValueError, match="read-only"):
        model.weights_[0] = 0.3
    model.weights_ = [0.25, 0.75]
    expected = model.log_density(patches) + np.log([0.25, 0.75])
    np.testing.assert_allclose(model.score_samples(patches), np.logaddexp.reduce(expected, axis=1))
    model.weights_ = [0.25, np.nan]
    for question in ("predict", "sample", "filters", "save"):
        with pytest.raises(ValueError, match="weights must be finite"):
            getattr(model, question)(*[patches] * (question == "predict"), *["/dev/null/x"] * (question == "save"))
    model.weights_, model.spectra_ = [1.0], model.spectra_[:1]
    assert model.predict_proba(patches).shape == (600, 1)
    assert model.n_components_ == 1


def test_shapes_whose_size_overflows_are_refused():
    X = np.random.default_rng(0).standard_normal((50, 4))
    with pytest.raises(ValueError, match="values, but X has 4 features"):
        ConvGMM(2, patch_shape=(5, 2147418113, 1718039348)).fit(X)


def test_messages_name_samples_by_the_callers_numbers():
    X = GOOD.copy()
    X[30:] = X[30:, :1, :1]  # constant
    weight = np.ones(40)
    weight[:5] = 0
    with pytest.warns(UserWarning, match=r"10 of 35 samples are constant \(the first is sample 30\)"):
        ConvGMM(2, random_state=0).fit(X, sample_weight=weight)
    far = GOOD.copy()
    far[20] *= 1e70
    with pytest.raises(ValueError, match="sample 20 has no finite log-density"):
        ConvGMM(2, spectra_init=np.full((2, 6, 6), 1e-170)).fit(far, sample_weight=weight)


def test_one_sample_too_distant_for_float32_is_computed_in_float64():
    model = ConvGMM(2, random_state=0).fit(GOOD)
    far = GOOD.astype(np.float32)
    expected = model.predict_proba(far), model.log_density(far), model.score_samples(far)
    far[7] *= np.float32(1e19)
    exact = far[7:8].astype(np.float64)
    found = model.predict_proba(far), model.log_density(far), model.score_samples(far)
    others = np.arange(40) != 7
    for one, rest in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one[others], rest[others])
    np.testing.assert_allclose(found[0][7], model.predict_proba(exact)[0], rtol=1e-6)
    with np.errstate(over="ignore"):
        assert model.log_density(exact).astype(np.float32).shape == (1, 2)


def test_an_import_needs_no_fftw_until_it_transforms(monkeypatch):
    from convgmm import _fftw

    _fftw.shared_libraries.cache_clear()
    _fftw.provide.cache_clear()
    monkeypatch.setattr(_fftw, "_find", lambda folders, name: (_ for _ in ()).throw(ImportError("pip install pyfftw")))
    try:
        with pytest.raises(ImportError, match="pip install pyfftw"):
            ConvGMM(2).fit(GOOD)
        FullGMM(2, random_state=0).fit(GOOD)
    finally:
        _fftw.shared_libraries.cache_clear()
        _fftw.provide.cache_clear()


def test_the_start_needs_little_memory(monkeypatch):
    """What k-means++ holds beside the samples that it draws does not grow with their number."""
    import tracemalloc

    from convgmm import initialize

    rng = np.random.default_rng(0)
    coefficients = rng.exponential(size=(20_000, 1500)).astype(np.float32)
    power = coefficients.mean(axis=1)
    monkeypatch.setattr(initialize, "_BLOCK_VALUES", 1 << 18)
    tracemalloc.start()
    initialize.kmeans_plus_plus(coefficients, np.ones(1500), power, None, 64, 1e-6, np.random.RandomState(0), 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    drawn = 6_400 * 1500 * 4
    assert peak < drawn + 15e6

"""The scikit-learn contract of every mixture, and what the convolutional one adds."""

import pickle
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import (
    check_estimator,
    check_set_output_transform,
    check_transformer_get_feature_names_out,
)

import oracle
from convgmm import ConvGMM, FullGMM

MIXTURES = [ConvGMM(2), FullGMM(2)]  # one entry for each family

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def patches(rng):
    x = rng.standard_normal((600, 8, 8))
    x[300:] = x[300:].cumsum(axis=2)
    return x


@pytest.mark.filterwarnings("ignore::UserWarning")  # constant samples, skipped optional checks
@pytest.mark.parametrize("mixture", MIXTURES, ids=lambda m: type(m).__name__)
def test_scikit_learn_checks(mixture):
    results = check_estimator(mixture, on_skip=None)
    assert len(results) > 40
    assert {r["status"] for r in results} <= {"passed", "skipped"}
    assert [r["check_name"] for r in results if r["status"] == "skipped"] in ([], ["check_array_api_input"])
    name = type(mixture).__name__
    check_transformer_get_feature_names_out(name, mixture)
    check_set_output_transform(name, mixture)


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


def test_float32_in_float32_out(patches):
    model = ConvGMM(2, random_state=0).fit(patches.astype(np.float32))
    assert model.transform(patches.astype(np.float32)).dtype == np.float32
    assert model.transform(patches).dtype == np.float64
    assert model.spectra_.dtype == np.float64


def test_fit_predict_is_fit_then_predict(patches):
    model = ConvGMM(3, random_state=1)
    np.testing.assert_array_equal(model.fit_predict(patches), model.predict(patches))


def test_sample_has_the_spectra_of_its_components(patches):
    model = ConvGMM(2, random_state=0).fit(patches)
    X, components = model.sample(20000)
    assert X.shape == (20000, 8, 8)
    assert components.shape == (20000,)
    np.testing.assert_allclose(np.bincount(components) / 20000, model.weights_, atol=0.02)
    np.testing.assert_allclose(X.mean(axis=(1, 2)), 0, atol=1e-12)
    for k in range(2):
        found = np.nan_to_num(oracle.periodograms(X[components == k], True)).mean(axis=0)
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


def test_warm_start_goes_on(patches):
    whole = ConvGMM(3, tol=0, max_iter=10, random_state=0).fit(patches)
    parts = ConvGMM(3, tol=0, max_iter=5, random_state=0, warm_start=True).fit(patches).fit(patches)
    np.testing.assert_allclose(parts.spectra_, whole.spectra_, rtol=1e-9)


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


def test_pipeline_pickle_clone_dataframe(patches):
    pandas = pytest.importorskip("pandas")
    pipeline = make_pipeline(
        ConvGMM(4, output="likelihood", random_state=0), ConvGMM(2, remove_mean=False, random_state=0)
    )
    pipeline.fit(patches)
    assert pipeline.predict(patches).shape == (600,)
    model = pickle.loads(pickle.dumps(pipeline[0]))
    np.testing.assert_array_equal(model.predict_proba(patches), pipeline[0].predict_proba(patches))
    with pytest.raises(NotFittedError):
        clone(model).predict(patches)
    frame = pandas.DataFrame(patches[:, 0], columns=[f"t{i}" for i in range(8)])
    named = ConvGMM(2, random_state=0).set_output(transform="pandas").fit(frame)
    assert list(named.transform(frame).columns) == ["convgmm0", "convgmm1"]


@pytest.mark.parametrize("kind", ["integers", "non-contiguous", "read-only", "memory-mapped", "nested lists"])
def test_every_kind_of_array_is_accepted(kind, patches, tmp_path):
    X = np.round(patches * 20)
    expected = ConvGMM(2, random_state=0, max_iter=5).fit(X)
    if kind == "integers":
        given = X.astype(np.int16)
    elif kind == "non-contiguous":
        given = np.repeat(X, 2, axis=1)[:, ::2]
    elif kind == "read-only":
        given = X.copy()
        given.setflags(write=False)
    elif kind == "memory-mapped":
        np.save(tmp_path / "x.npy", X)
        given = np.load(tmp_path / "x.npy", mmap_mode="r")
    else:
        given = X.tolist()
    model = ConvGMM(2, random_state=0, max_iter=5).fit(given)
    np.testing.assert_array_equal(model.spectra_, expected.spectra_)


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


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.zeros(40), "zero"),
        (-np.ones(40), "[Nn]egative"),
        (np.ones(39), "sample_weight"),
        (np.full(40, np.nan), "NaN"),
    ],
)
def test_bad_sample_weights_are_refused(weight, message):
    with pytest.raises(ValueError, match=message):
        ConvGMM(2).fit(GOOD, sample_weight=weight)


def test_wrong_shapes_after_fitting_are_refused():
    model = ConvGMM(2, random_state=0).fit(GOOD)
    for X in (GOOD[:, :5], GOOD.reshape(40, 36), GOOD[:, :, :, None], GOOD.reshape(40, 4, 9)):
        with pytest.raises(ValueError, match=r"shape|features"):
            model.predict(X)


def test_a_sample_beyond_the_number_format_is_named():
    model = ConvGMM(2, random_state=0).fit(GOOD)
    far = GOOD.astype(np.float32)
    far[7] *= 1e19
    with pytest.raises(ValueError, match="sample 7"):
        model.predict(far)


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


def test_ctrl_c_ends_a_fit_soon_and_keeps_what_was_reached(command):
    script = textwrap.dedent("""
        import numpy as np, sys, time
        from convgmm import ConvGMM
        X = np.random.default_rng(0).standard_normal((60000, 16, 16)).astype(np.float32)
        model = ConvGMM(64, tol=0, max_iter=100000, random_state=0)
        print("fitting", flush=True)
        try:
            model.fit(X)
        except KeyboardInterrupt:
            print("kept", model.n_iter_, len(model.lower_bounds_), model.score(X[:10]), flush=True)
    """)
    running = command("-c", script)
    assert running.process.stdout.readline() == "fitting\n"
    time.sleep(3)
    output = running.stop(signal.SIGINT, timeout=20)
    word, n_iter, n_bounds, score = output.split()
    assert word == "kept"
    assert int(n_iter) == int(n_bounds) > 0
    assert np.isfinite(float(score))


def test_a_forked_child_can_fit():
    script = textwrap.dedent("""
        import os, numpy as np, warnings
        from convgmm import ConvGMM
        X = np.random.default_rng(0).standard_normal((3000, 8, 8))
        model = ConvGMM(2, random_state=0, n_threads=2).fit(X)
        child = os.fork()
        if child == 0:
            again = ConvGMM(2, random_state=0, n_threads=2).fit(X)
            os._exit(0 if (again.spectra_ == model.spectra_).all() else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "0\n"


def test_a_fall_of_the_likelihood_is_said():
    from convgmm.mixture import LikelihoodWarning, Monitor

    monitor = Monitor(tol=1e-3, relative=1e-6, absolute=1e-6)
    assert not monitor.converged(1.0, exempt=False)
    assert not monitor.converged(0.9, exempt=True)
    with pytest.warns(LikelihoodWarning, match="fell by 0.1"):
        assert not monitor.converged(0.8, exempt=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not monitor.converged(0.8 - 1e-7, exempt=False)  # rounding neither warns nor counts as converged
        assert monitor.converged(0.8, exempt=False)


def test_not_converged_is_said():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        with pytest.raises(ConvergenceWarning, match="max_iter"):
            ConvGMM(2, max_iter=1, random_state=0).fit(GOOD)

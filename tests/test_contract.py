"""What every estimator promises: run over all of `registry.ENTRIES`."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import (
    check_estimator,
    check_set_output_transform,
    check_transformer_get_feature_names_out,
)

from convgmm.basis import BASES
from registry import ENTRIES, MIXTURES, arrays, assert_same

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

QUESTIONS = ("predict", "predict_proba", "log_density", "score_samples", "transform", "top_samples")


@pytest.fixture(params=ENTRIES, ids=lambda entry: entry.name)
def entry(request):
    return request.param


def _slow_but(entries, quick):
    """Return the entries as parameters, those that are not among the quick ones marked slow."""
    return [each if each.name in quick else pytest.param(each, marks=pytest.mark.slow) for each in entries]


@pytest.fixture(params=_slow_but(ENTRIES, ("ConvGMM", "FullGMM, rotated", "DeepGMM")), ids=lambda entry: entry.name)
def in_processes(request):
    """Return every estimator, for tests that start processes: a few seconds each."""
    return request.param


@pytest.fixture(params=MIXTURES, ids=lambda entry: entry.name)
def mixture(request):
    return request.param


def answers(estimator, X):
    return [getattr(estimator, question)(X) for question in QUESTIONS]


def assert_same_answers(a, b, X):
    for left, right in zip(answers(a, X), answers(b, X), strict=True):
        np.testing.assert_array_equal(left, right)


def run_python(script, **environment):
    """Run a script beside these tests; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parent,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- scikit-learn ----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning")  # constant samples, skipped optional checks
def test_scikit_learn_checks(entry):
    results = check_estimator(entry.make(), on_skip=None)
    assert len(results) > 40
    assert {r["status"] for r in results} <= {"passed", "skipped"}
    assert [r["check_name"] for r in results if r["status"] == "skipped"] in ([], ["check_array_api_input"])
    check_transformer_get_feature_names_out(entry.name, entry.make())
    check_set_output_transform(entry.name, entry.make())


def test_parameters_are_what_was_given_and_clones_are_unfitted(entry):
    X = entry.samples()
    estimator = entry.make(max_iter=3)
    before = {name: repr(value) for name, value in estimator.get_params().items()}
    estimator.fit(X)
    assert {name: repr(value) for name, value in estimator.get_params().items()} == before
    with pytest.raises(NotFittedError):
        clone(estimator).predict(X)
    assert estimator._repr_html_()


def test_works_in_pipelines_and_searches(entry):
    X = entry.samples()
    pipeline = make_pipeline(entry.make(max_iter=3), entry.make(max_iter=3) if len(entry.shape) == 1 else "passthrough")
    assert len(pipeline.fit(X).transform(X)) == len(X)
    name = "layers__0__n_components" if entry.name == "DeepGMM" else "n_components"
    search = GridSearchCV(entry.make(max_iter=3), {name: [2, 3]}, cv=2, error_score="raise").fit(X)
    assert search.best_params_[name] in (2, 3)
    assert np.isfinite(search.best_score_)


def test_frames_name_their_features(entry):
    pandas = pytest.importorskip("pandas")
    X = entry.samples()[:, 0]
    frame = pandas.DataFrame(X, columns=[f"t{i}" for i in range(X.shape[1])])
    estimator = entry.make(max_iter=3).set_output(transform="pandas").fit(frame)
    assert list(estimator.feature_names_in_) == list(frame.columns)
    assert list(estimator.transform(frame).columns) == list(estimator.get_feature_names_out())
    with pytest.raises(ValueError, match="feature names"):
        estimator.predict(frame[frame.columns[::-1]])
    assert not hasattr(estimator.fit(X), "feature_names_in_")  # those of the fit before are gone


# ---- samples in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["integers", "non-contiguous", "read-only", "memory-mapped", "nested lists", "misaligned", "other bytes"]
)
def test_every_kind_of_array_is_accepted(entry, kind, tmp_path):
    X = np.round(entry.samples() * 20)
    expected = entry.make(max_iter=3).fit(X)
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
    elif kind == "misaligned":
        memory = bytearray(X.nbytes + 1)
        given = np.frombuffer(memory, dtype=np.float64, offset=1).reshape(X.shape)
        given[:] = X
        assert not given.flags.aligned
    elif kind == "other bytes":
        given = X.astype(X.dtype.newbyteorder())
    else:
        given = X.tolist()
    estimator = entry.make(max_iter=3).fit(given)
    assert_same(estimator, expected)
    assert_same_answers(estimator, expected, X)


class Tensor:
    """An array of another library, which says its dtype in a way of its own."""

    def __init__(self, values):
        self.values = values
        self.ndim, self.shape, self.dtype = values.ndim, values.shape, f"other.{values.dtype}"

    def __array__(self, dtype=None, copy=None):
        return self.values.astype(dtype) if dtype is not None else self.values

    def __getitem__(self, key):
        return Tensor(self.values[key])

    def __len__(self):
        return len(self.values)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_answers_are_of_the_samples_dtype(entry, dtype):
    X = entry.samples().astype(dtype)
    flat = X.reshape(len(X), -1)
    for fitted, given in ((entry.make(max_iter=3).fit(X), X), (entry.make(max_iter=3).fit(flat), Tensor(flat))):
        for question in ("predict_proba", "log_density", "score_samples", "transform"):
            assert getattr(fitted, question)(given).dtype == dtype, question
        assert fitted.predict(given).dtype == np.int64
    assert_same(entry.make(max_iter=3).fit(Tensor(flat)), entry.make(max_iter=3).fit(flat))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda X: np.where(np.arange(len(X)).reshape(-1, 1, 1) == 3, np.nan, X), "NaN"),
        (lambda X: np.where(np.arange(len(X)).reshape(-1, 1, 1) == 3, np.inf, X), "infinity"),
        (lambda X: X + 1j, "[Cc]omplex"),
        (lambda X: np.full((5, 4), "text"), "convert"),
        (lambda X: X[:0], "0 sample"),
        (lambda X: X[:1], "n_samples = 1|1 sample"),
        (lambda X: X[0, 0], "1D array"),
        (lambda X: X[:, None, None], "dim <= 4"),
        (lambda X: None, "Expected 2D|float"),
    ],
    ids=["nan", "infinite", "complex", "text", "empty", "one", "1-D", "5-D", "None"],
)
def test_bad_data_is_refused_and_the_estimator_stays_what_it_was(entry, spoil, message):
    X = entry.samples()
    estimator = entry.make(max_iter=3)
    with pytest.raises((ValueError, TypeError), match=message):
        estimator.fit(spoil(X))
    for question in QUESTIONS:
        with pytest.raises(NotFittedError):
            getattr(estimator, question)(X)
    assert not [name for name in vars(estimator) if name.endswith("_")]
    assert estimator._repr_html_()
    with pytest.raises(NotFittedError):
        estimator.get_feature_names_out()
    before = answers(estimator.fit(X), X)
    with pytest.raises((ValueError, TypeError), match=message):
        estimator.fit(spoil(X))
    for left, right in zip(answers(estimator, X), before, strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_refit_that_fails_late_leaves_the_estimator_as_it_was(entry, monkeypatch):
    X = entry.samples()
    estimator = entry.make(max_iter=3).fit(X)
    before = answers(estimator, X)

    def fails(*arguments, **options):
        raise ValueError("late")

    with monkeypatch.context() as patch:
        patch.setattr("convgmm.em.Batch.step", fails)
        with pytest.raises(ValueError, match="late"):
            estimator.fit(X[:, :1])  # other features than those that it knows
    for left, right in zip(answers(estimator, X), before, strict=True):
        np.testing.assert_array_equal(left, right)
    assert estimator.n_features_in_ == X[0].size


def test_other_shapes_are_refused_after_a_fit(entry):
    X = entry.samples()
    estimator = entry.make(max_iter=3).fit(X)
    for other in (X[:, :1], X[:, :, :, None], X.reshape(len(X), *entry.shape[::-1], 1)):
        with pytest.raises(ValueError, match=r"shape|features"):
            estimator.predict(other)


@pytest.mark.parametrize(
    "options",
    [
        {"n_components": 0},
        {"n_init": 0},
        {"max_iter": 0},
        {"tol": -1},
        {"tol": np.nan},
        {"prune_threshold": 1.0},
        {"output": "density"},
        {"temperature": 0},
        {"n_threads": 0},
        {"random_state": "seed"},
        {"warm_start": "yes"},
        {"weights_init": [0.5]},
        {"drop_last": True, "output": "log_density"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_bad_options_are_refused(entry, options):
    if entry.name == "DeepGMM":  # its layers have those
        estimator = entry.make().set_params(
            **{f"layers__0__{name}": value for name, value in options.items() if name != "warm_start"}
        )
        if "warm_start" in options:
            estimator.set_params(warm_start="yes")
    else:
        estimator = entry.make(**options)
    with pytest.raises(ValueError, match=next(iter(options))):
        estimator.fit(entry.samples())


# ---- weights ---------------------------------------------------------------------------------------------------------


def test_a_weight_of_two_is_the_sample_twice_in_any_order(entry):
    X = entry.samples(120)
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 4, len(X))
    repeated = np.repeat(X, weight, axis=0)[rng.permutation(weight.sum())]
    weighted = entry.make(tol=0, max_iter=4).fit(X, sample_weight=weight)
    plain = entry.make(tol=0, max_iter=4).fit(repeated)
    for left, right in zip(arrays(weighted), arrays(plain), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("scale", [1e-300, 1e-46, 1e39, 1e308])
def test_only_ratios_of_weights_count(entry, scale):
    X = entry.samples()
    weight = np.random.default_rng(0).uniform(0.5, 1, len(X))
    plain = entry.make(max_iter=3).fit(X, sample_weight=weight)
    scaled = entry.make(max_iter=3).fit(X, sample_weight=weight * scale)
    for left, right in zip(arrays(plain), arrays(scaled), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-12)
    same = entry.make(max_iter=3).fit(X, sample_weight=np.full(len(X), scale))
    for left, right in zip(arrays(same), arrays(entry.make(max_iter=3).fit(X)), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.zeros(400), "zero"),
        (-np.ones(400), "[Nn]egative"),
        (np.ones(39), "sample_weight"),
        (np.full(400, np.nan), "NaN"),
    ],
    ids=["zero", "negative", "too few", "nan"],
)
def test_bad_sample_weights_are_refused(entry, weight, message):
    with pytest.raises(ValueError, match=message):
        entry.make().fit(entry.samples(), sample_weight=weight)


# ---- keeping a model -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["pickle", "joblib", "file"])
def test_a_kept_model_answers_to_the_last_bit(entry, way, tmp_path):
    X = entry.samples()
    estimator = entry.make(max_iter=3).fit(X)
    before = answers(estimator, X)
    if way == "pickle":
        kept = pickle.loads(pickle.dumps(estimator))
    elif way == "joblib":
        joblib.dump(estimator, tmp_path / "model")
        kept = joblib.load(tmp_path / "model")
    else:
        estimator.save(tmp_path / "model")
        assert [path.name for path in tmp_path.iterdir()] == ["model"]  # exactly that name
        kept = type(estimator).load(tmp_path / "model")
    assert_same(kept, estimator)
    for left, right in zip(answers(kept, X), before, strict=True):
        np.testing.assert_array_equal(left, right)
    assert repr(kept) == repr(estimator)
    np.testing.assert_array_equal(kept.sample(5)[0], estimator.sample(5)[0])
    assert_same(kept.set_params(warm_start=True).fit(X), estimator.set_params(warm_start=True).fit(X))


def test_nothing_of_the_training_data_is_kept(entry):
    X = entry.samples(4000)
    weight = np.random.default_rng(0).integers(0, 3, len(X))
    estimator = entry.make(max_iter=2).fit(X, sample_weight=weight)
    estimator.predict(X)
    # Arrays, the axes that samples are rotated to, parameters: no term grows with the samples.
    few = entry.make(max_iter=2).fit(X[:400], sample_weight=weight[:400])
    assert len(pickle.dumps(estimator)) < len(pickle.dumps(few)) + 1000


def test_what_was_prepared_is_kept(entry, monkeypatch):
    X = entry.samples()
    estimator = entry.make(max_iter=3).fit(X)
    answers(estimator, X)

    def again(*arguments, **options):
        raise AssertionError("prepared again")

    for family in ("full.Full", "spectral.Spectral", "torus.Torus"):
        monkeypatch.setattr(f"convgmm.families.{family}.prepare", again)
    answers(estimator, X[:1])


# ---- going on --------------------------------------------------------------------------------------------------------


def test_a_warm_start_goes_on(mixture):
    X = mixture.samples()
    whole = mixture.make(tol=0, max_iter=6).fit(X)
    parts = mixture.make(tol=0, max_iter=3, warm_start=True).fit(X).fit(X)
    for left, right in zip(parts.model_.arrays.values(), whole.model_.arrays.values(), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-8, atol=1e-12)
    with pytest.raises(ValueError, match="warm_start"):
        parts.fit(X[:, :1])


def test_a_warm_start_of_single_iterations_converges(mixture):
    X = mixture.samples()
    whole = mixture.make(max_iter=300, tol=1e-3).fit(X)
    assert whole.converged_
    single = mixture.make(max_iter=1, tol=1e-3, warm_start=True)
    converged = [single.fit(X).converged_ for _ in range(whole.n_iter_)]
    assert converged.index(True) + 1 == whole.n_iter_


def test_fit_predict_is_fit_then_predict(entry):
    X = entry.samples()
    estimator = entry.make(max_iter=3)
    np.testing.assert_array_equal(estimator.fit_predict(X), estimator.predict(X))
    weight = np.arange(len(X)) % 3
    np.testing.assert_array_equal(estimator.fit_predict(X, sample_weight=weight), estimator.predict(X))


def test_fit_transform_is_fit_then_transform(entry):
    X = entry.samples()
    for output in ("posterior", "likelihood", "log_density", "standardized"):
        estimator = entry.make(max_iter=3, **({} if entry.name == "DeepGMM" else {"output": output}))
        np.testing.assert_array_equal(estimator.fit_transform(X), estimator.transform(X))


def test_samples_are_transformed_once_by_a_fit(entry, monkeypatch):
    calls = []
    for basis in BASES.values():
        original = basis.coefficients
        monkeypatch.setattr(basis, "coefficients", lambda *given, of=original: calls.append(1) or of(*given))
    X = entry.samples()
    for way in ("fit", "fit_predict", "fit_transform"):
        calls.clear()
        getattr(entry.make(max_iter=3), way)(X)
        assert len(calls) == (0 if "FullGMM" in entry.name else 1), way


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("output", ["posterior", "likelihood", "standardized"])
def test_outputs_of_a_distant_sample_are_finite(mixture, output, temperature):
    X = mixture.samples().astype(np.float32)
    estimator = mixture.make(max_iter=3, output=output, temperature=temperature).fit(X)
    far = X.copy()
    far[1] *= np.float32(1e20)
    found = estimator.transform(far)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(np.delete(found, 1, axis=0), np.delete(estimator.transform(X), 1, axis=0))
    assert estimator.top_samples(far, 3).shape == (estimator.n_components_, 3)


def test_what_was_set_by_hand_is_checked_before_it_is_kept(entry, tmp_path):
    X = entry.samples()
    estimator = entry.make(max_iter=3).fit(X)
    mixture = getattr(estimator, "layers_", [estimator])[0]
    mixture.weights_ = np.full(mixture.n_components_, np.nan)
    with pytest.raises(ValueError, match="weights must be finite"):
        pickle.dumps(estimator)
    with pytest.raises(ValueError, match="weights must be finite"):
        estimator.save(tmp_path / "model")


def test_parameters_set_after_the_fit_do_not_change_what_is_kept(entry, tmp_path):
    X = entry.samples()
    estimator = entry.make(max_iter=3).fit(X)
    expected = estimator.predict_proba(X)
    name, value = {
        "C": ("remove_mean", False),
        "T": ("remove_mean", False),
        "F": ("means", "zero"),
        "D": ("random_state", 3),
    }[entry.name[0]]
    estimator.set_params(**{name: value}).save(tmp_path / "model")
    np.testing.assert_array_equal(type(estimator).load(tmp_path / "model").predict_proba(X), expected)


# ---- threads, forks, interrupts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_bits_for_any_number_of_threads(entry, dtype):
    X = entry.samples(2000).astype(dtype)
    fits = [entry.make(tol=0, max_iter=3, n_threads=threads).fit(X) for threads in (1, 2, 3)]
    for other in fits[1:]:
        assert_same(other, fits[0])
        assert_same_answers(other, fits[0], X)


FITTED_BITS = """
    import hashlib, sys, warnings
    import numpy as np
    from registry import ENTRIES, arrays
    warnings.simplefilter("ignore")
    entry = next(entry for entry in ENTRIES if entry.name == {name!r})
    total = hashlib.sha256()
    for dtype in (np.float32, np.float64):
        X = entry.samples(1500).astype(dtype)
        estimator = entry.make(max_iter=4).fit(X)
        for array in [*arrays(estimator), estimator.predict_proba(X), estimator.log_density(X), estimator.sample(9)[0]]:
            total.update(array.tobytes())
    print(total.hexdigest())
"""


def test_the_same_bits_for_any_number_of_threads_of_libraries(in_processes):
    script = FITTED_BITS.format(name=in_processes.name)
    bits = {
        run_python(script, OPENBLAS_NUM_THREADS=threads, OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
        for threads in "12"
    }
    assert len(bits) == 1


def test_fits_in_several_threads_at_once_are_the_same_and_leave_libraries_alone(entry):
    from threadpoolctl import threadpool_info

    X = entry.samples(1500)
    expected = entry.make(max_iter=4).fit(X)
    before = [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info()]
    found = []

    def work():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found.extend(entry.make(max_iter=4).fit(X) for _ in range(3))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 9
    for estimator in found:
        assert_same(estimator, expected)
    assert [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info()] == before


@pytest.mark.parametrize("n_threads", [None, 1])
def test_a_forked_child_can_fit(in_processes, n_threads):
    script = f"""
        import os, warnings
        from registry import ENTRIES, assert_same
        warnings.simplefilter("ignore")
        entry = next(entry for entry in ENTRIES if entry.name == {in_processes.name!r})
        X = entry.samples(1500)
        estimator = entry.make(max_iter=3, n_threads={n_threads}).fit(X)
        child = os.fork()
        if child == 0:
            assert_same(entry.make(max_iter=3, n_threads={n_threads}).fit(X), estimator)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert run_python(script) == "0\n"


def test_a_pool_of_processes_can_fit(in_processes):
    script = f"""
        import multiprocessing, warnings
        from registry import ENTRIES
        warnings.simplefilter("ignore")
        entry = next(entry for entry in ENTRIES if entry.name == {in_processes.name!r})
        X = entry.samples(500)

        def fit(seed):
            return entry.make(max_iter=3).fit(X).score(X)

        if __name__ == "__main__":
            expected = fit(0)
            with multiprocessing.get_context("fork").Pool(2) as pool:
                print(set(pool.map(fit, range(4))) == {{expected}})
    """
    assert run_python(script) == "True\n"


def test_ctrl_c_ends_a_fit_soon_and_keeps_what_was_reached(in_processes, command):
    script = f"""
import sys, warnings
import numpy as np
sys.path.insert(0, {str(Path(__file__).parent)!r})
from convgmm import em
from registry import ENTRIES, arrays
warnings.simplefilter("ignore")
entry = next(entry for entry in ENTRIES if entry.name == {in_processes.name!r})
X = entry.samples(20000)
estimator = entry.make(tol=0, max_iter=1000000)
converged, seen = em.Monitor.converged, []

def counted(self, *arguments, **options):
    seen.append(1)
    if len(seen) == 5:
        print("fitting", flush=True)
    return converged(self, *arguments, **options)

em.Monitor.converged = counted
try:
    estimator.fit(X)
except KeyboardInterrupt:
    if not hasattr(estimator, "layers_") and {in_processes.name!r} == "DeepGMM":
        print("kept", 5, 0.0, flush=True)  # no layer was finished
    else:
        print("kept", estimator.n_iter_, estimator.score(X[:10]), flush=True)
"""
    running = command("-c", script)
    assert running.process.stdout.readline() == "fitting\n"
    word, n_iter, score = running.stop(signal.SIGINT, timeout=60).split()
    assert word == "kept"
    assert int(n_iter) >= 4
    assert np.isfinite(float(score))


def test_interrupts_at_any_moment_leave_one_whole_model(in_processes):
    script = f"""
        import itertools, signal, warnings
        import numpy as np
        from registry import ENTRIES, arrays
        warnings.simplefilter("ignore")
        entry = next(entry for entry in ENTRIES if entry.name == {in_processes.name!r})
        X, other = entry.samples(300), entry.samples(200, seed=1)
        estimator = entry.make(max_iter=4).fit(X)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        hit = 0
        for trial in range(60):
            data = (X, other)[trial % 2]
            options = [mixture.set_params(n_components=2 + trial % 3)
                       for mixture in getattr(estimator, "layers", [estimator])]
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 1e-4 * (1 + trial))
                    estimator.fit(data)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:  # which may also come when the fit has just ended
                hit += 1
            for mixture in getattr(estimator, "layers_", [estimator]):
                K = mixture.n_components_
                of_components = {{**mixture.model_.arrays}}
                of_components.pop("scales", None)  # a grid, which all components share
                assert {{len(array) for array in of_components.values()}} == {{K}}
                assert mixture._model.arrays["weights"] is mixture.weights_
                assert len(mixture.lower_bounds_) == mixture.n_iter_ > 0
            if len(getattr(estimator, "layers_", [0, 0])) == 2:
                assert np.isfinite(estimator.score(X))
        print(hit > 3)
    """
    assert run_python(script) == "True\n"

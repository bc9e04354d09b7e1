"""The C++ core by itself: what it refuses, its accuracy in float32, and how calls and the interpreter end."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from convgmm import _core, _fftw

_fftw.provide()


def spectral_constants(weights, multiplicities, spectra):
    """Return log π_k − ½ Σ m (log S_k + log 2π)."""
    with np.errstate(divide="ignore"):
        return np.log(weights) - 0.5 * ((np.log(spectra) + np.log(2 * np.pi)) @ multiplicities)


@pytest.fixture
def spectral(rng):
    """Return what `spectral_posterior` takes before the number of threads."""
    spectra = rng.uniform(0.5, 2, (3, 9))
    multiplicities = np.full(9, 2.0)
    return [
        rng.exponential(size=(50, 9)),
        multiplicities,
        spectra,
        spectral_constants(np.full(3, 1 / 3), multiplicities, spectra),
    ]


@pytest.fixture
def full(rng):
    """Return what `full_posterior` takes before the number of threads."""
    whiteners, log_diagonal, _, _ = _core.full_factorize_float64(np.tile(np.eye(6), (3, 1, 1)), 1)
    return [rng.standard_normal((40, 6)), rng.standard_normal((3, 6)), whiteners, log_diagonal - 3 * np.log(2 * np.pi)]


def run_script(text, *, timeout=120):
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


# Accuracy


@pytest.mark.parametrize("shape", [(16, 16), (64, 64), (128, 128), (32, 32, 32)], ids=str)
def test_float32_is_as_exact_for_large_patches(shape, rng):
    """Components so close that responsibilities show every error of the distances."""
    multiplicities, _ = _core.half_spectrum(shape)
    D, n = len(multiplicities), 200
    spectra = 100 / (1 + np.arange(D)) * np.exp(rng.standard_normal((4, D)) / np.sqrt(np.prod(shape)))
    P = spectra[rng.integers(0, 4, n)] * rng.chisquare(multiplicities, (n, D)) / multiplicities
    P = P.astype(np.float32)
    parameters = multiplicities, spectra, spectral_constants(np.full(4, 0.25), multiplicities, spectra)
    gamma, log_p = _core.spectral_posterior(P, *parameters, 2)
    exact_gamma, exact_log_p = _core.spectral_posterior(P.astype(np.float64), *parameters, 2)
    assert exact_gamma.max(axis=1).mean() < 0.9
    np.testing.assert_allclose(gamma, exact_gamma, atol=6e-5)
    np.testing.assert_allclose(log_p, exact_log_p, rtol=2e-7, atol=3e-4)
    density = _core.spectral_log_density(P, *parameters, 2)
    expected = _core.spectral_log_density(P.astype(np.float64), *parameters, 2)
    np.testing.assert_allclose(density, expected, rtol=2e-7, atol=3e-4)
    single, double = (_core.spectral_expect(data, *parameters, None, 2) for data in (P, P.astype(np.float64)))
    np.testing.assert_allclose(single[0], double[0], atol=n * 2e-5)
    np.testing.assert_allclose(single[2], double[2], rtol=1e-7)


def test_huge_constants_leave_no_rounding_in_float32_responsibilities(spectral, full):
    for posterior, arguments, single in (
        (_core.spectral_posterior, spectral, (0,)),
        (_core.full_posterior, full, (0, 2)),
    ):
        for i in single:
            arguments[i] = arguments[i].astype(np.float32)
        plain, log_p = posterior(*arguments, 1)
        arguments[3] = arguments[3] + 1e7
        shifted, shifted_log_p = posterior(*arguments, 1)
        np.testing.assert_allclose(shifted, plain, atol=1e-6)
        np.testing.assert_allclose(shifted_log_p, log_p + 1e7, rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "D", "E"), [(1, 1, 1), (7, 3, 2), (300, 65, 33), (500, 600, 17), (0, 4, 4)])
def test_project_is_a_product_with_the_same_bits_for_any_number_of_threads(dtype, n, D, E, rng):
    samples = rng.standard_normal((n, D)).astype(dtype) + dtype(3)
    centre, axes = rng.standard_normal(D), rng.standard_normal((D, E))
    one = _core.project(samples, centre, axes, 1)
    assert one.dtype == dtype
    exact = (samples.astype(np.float64) - centre) @ axes
    np.testing.assert_allclose(one, exact, atol=(1e-4 if dtype == np.float32 else 1e-12) * np.sqrt(D))
    for threads in (2, 3):
        np.testing.assert_array_equal(_core.project(samples, centre, axes, threads), one)


def test_principal_axes(rng):
    matrix = np.cov(rng.standard_normal((40, 90)) * np.arange(1, 41)[:, None])
    variances, axes = _core.principal_axes(matrix)
    assert (np.diff(variances) <= 0).all()
    np.testing.assert_allclose(axes.T @ axes, np.eye(40), atol=1e-13)
    np.testing.assert_allclose(axes * variances @ axes.T, matrix, atol=1e-10)
    np.testing.assert_array_equal(_core.principal_axes(matrix)[1], axes)
    with pytest.raises(ValueError, match="finite"):
        _core.principal_axes(np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match="expected"):
        _core.principal_axes(np.ones((3, 4)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_hard_and_drawn_assignments(dtype, weighted, rng):
    """Each sample has one component, whatever the threads, the blocks and their order are."""
    n, K = 5003, 5
    multiplicities, spectra = np.full(9, 2.0), rng.uniform(0.5, 2, (K, 9))
    spectra[4] = spectra[3]  # equal ones: the first is the likeliest
    P = rng.exponential(size=(n, 9)).astype(dtype)
    weight = rng.integers(0, 3, n).astype(float) if weighted else None
    parameters = multiplicities, spectra, spectral_constants(np.full(K, 1 / K), multiplicities, spectra)
    gamma, _ = _core.spectral_posterior(P, *parameters, 1)
    soft = _core.spectral_expect(P, *parameters, weight, 1)

    X = rng.standard_normal((n, 6)).astype(dtype)
    factorize = _core.full_factorize_float32 if dtype == np.float32 else _core.full_factorize_float64
    whiteners, log_diagonal, _, _ = factorize(rng.uniform(0.5, 2, (K, 1, 1)) * np.eye(6), 1)
    full = rng.standard_normal((K, 6)), whiteners, log_diagonal

    def spectral_expect(part, threads=2, **how):
        w = None if weight is None else weight[part]
        return _core.spectral_expect(P[part], *parameters, w, threads, **how)

    def full_expect(part, threads=2, **how):
        w = None if weight is None else weight[part]
        winners = np.full(len(X[part]), -1, np.int32)
        return _core.full_expect(X[part], *full, w, winners, [], threads, **how)

    whole = slice(None)
    for assignment in ("hard", "draw"):
        share, power, log_likelihood = spectral_expect(whole, assignment=assignment)
        total = n if weight is None else weight.sum()
        assert share.sum() == pytest.approx(total)
        np.testing.assert_array_equal(share, np.round(share))
        assert log_likelihood == soft[2]
        np.testing.assert_allclose(power.sum(axis=0), np.ones(n) @ P if weight is None else weight @ P, rtol=1e-4)
        for expect in (spectral_expect, full_expect):
            how = {"assignment": assignment, "seed": 2**63 + 1, "iteration": 4}
            one = expect(whole, threads=1, **how)
            for threads in (2, 3):
                for a, b in zip(expect(whole, threads=threads, **how)[:3], one[:3], strict=True):
                    np.testing.assert_array_equal(a, b)
            parts = [expect(slice(i, i + 777), first_number=i, **how)[0] for i in range(0, n, 777)]
            np.testing.assert_array_equal(sum(parts), one[0])
    one_each = np.bincount(gamma.argmax(axis=1), weights=weight, minlength=K)
    np.testing.assert_array_equal(spectral_expect(whole, assignment="hard")[0], one_each)
    draws = [spectral_expect(whole, assignment="draw", seed=1, iteration=i)[0] for i in range(60)]
    assert len({tuple(share) for share in draws}) > 50
    spread = np.sqrt(((1 if weight is None else weight[:, None] ** 2) * gamma * (1 - gamma)).sum(axis=0) / 60)
    assert (np.abs(np.mean(draws, axis=0) - soft[0]) < 4.5 * spread).all()
    with pytest.raises(ValueError, match="assignment"):
        spectral_expect(whole, assignment="sharp")


# What is refused


@pytest.mark.parametrize(
    "shape",
    [(5, 2147418113, 1718039348), (65536,) * 4, (2**31,), (46341, 46341), (0,), (4, 0), (-3, 4), ()],
    ids=str,
)
def test_shapes_without_a_size_are_refused(shape):
    with pytest.raises(ValueError, match="shape"):
        _core.half_spectrum(shape)
    for dtype in (np.float32, np.float64):
        with pytest.raises(ValueError, match="shape"):
            _core.squared_coefficients(np.empty((0, 0), dtype), shape, True, 1)


def test_packed_sizes_do_not_overflow():
    with pytest.raises((ValueError, MemoryError)):
        _core.full_transpose_whiteners(np.empty((0, 0)), 2**33, 1)


@pytest.mark.parametrize(
    ("which", "value"),
    [(1, np.nan), (1, -1.0), (2, np.nan), (2, 0.0), (2, -1.0), (3, np.nan), (3, np.inf)],
)
def test_spectral_parameters_are_checked(which, value, spectral):
    spectral[which] = spectral[which].copy()
    spectral[which].flat[1] = value
    for call in (
        lambda: _core.spectral_expect(*spectral, None, 1),
        lambda: _core.spectral_log_density(*spectral, 1),
        lambda: _core.spectral_posterior(*spectral, 1),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()


def test_constants_of_minus_infinity_are_components_of_weight_zero(spectral, full):
    for posterior, arguments in ((_core.spectral_posterior, spectral), (_core.full_posterior, full)):
        without = [*arguments[:3], arguments[3].copy()]
        without[3][1] = -np.inf
        gamma, _ = posterior(*without, 1)
        assert (gamma[:, 1] == 0).all()
        np.testing.assert_allclose(gamma.sum(axis=1), 1)
        with pytest.raises(ValueError, match="weight"):
            posterior(*arguments[:3], np.full(3, -np.inf), 1)
        with pytest.raises(ValueError, match="constants"):
            posterior(*arguments[:3], np.array([0, np.nan, 0]), 1)


def test_nothing_to_sum_and_nothing_to_sum_over(spectral, full):
    none = [spectral[0][:0], *spectral[1:]]
    share, power, log_likelihood = _core.spectral_expect(*none, None, 2)
    assert not share.any()
    assert power.shape == (3, 9)
    assert log_likelihood == 0
    assert _core.spectral_log_density(*none, 2).shape == (0, 3)
    none = [full[0][:0], *full[1:]]
    share, _, second, log_likelihood, _, _ = _core.full_expect(*none, None, np.empty(0, np.int32), [], 2)
    assert not share.any()
    assert not second.any()
    assert log_likelihood == 0
    assert _core.full_posterior(*none, 2)[0].shape == (0, 3)
    with pytest.raises(ValueError, match="D > 0"):
        _core.spectral_log_density(np.empty((3, 0)), np.empty(0), np.empty((2, 0)), np.zeros(2), 1)
    with pytest.raises(ValueError, match="K > 0"):
        _core.spectral_log_density(np.ones((3, 2)), np.ones(2), np.empty((0, 2)), np.empty(0), 1)


def misaligned(array):
    """Return an equal array one byte beyond an aligned address."""
    memory = np.zeros(array.nbytes + 1, np.uint8)
    moved = np.frombuffer(memory, array.dtype, offset=1, count=array.size).reshape(array.shape)
    moved[...] = array
    assert not moved.flags.aligned
    return moved


@pytest.mark.parametrize("change", [misaligned, lambda array: array.astype(array.dtype.newbyteorder())])
def test_arrays_that_the_processor_cannot_read_are_refused(change, spectral, full):
    samples, means, whiteners, _ = full
    calls = [
        (_core.squared_coefficients, [samples], [(6,), True, 1]),
        (_core.spectral_expect, [*spectral, np.ones(50)], [1]),
        (_core.spectral_log_density, spectral, [1]),
        (_core.spectral_posterior, spectral, [1]),
        (_core.full_factorize_float64, [np.tile(np.eye(4), (2, 1, 1))], [1]),
        (_core.full_transpose_whiteners, [whiteners], [6, 1]),
        (_core.full_expect, [*full, np.ones(40), np.full(40, -1, np.int32)], [[], 1]),
        (_core.full_log_density, full, [1]),
        (_core.full_posterior, full, [1]),
        (_core.full_moments, [samples, np.array([0, 1, 2, 2]), np.array([3, 4]), np.ones(2), means], [1]),
        (_core.project, [samples, np.zeros(6), np.eye(6)], [1]),
        (_core.principal_axes, [np.eye(3)], []),
    ]
    for function, arrays, rest in calls:
        function(*arrays, *rest)
        for i in range(len(arrays)):
            changed = [*arrays[:i], change(arrays[i]), *arrays[i + 1 :]]
            with pytest.raises((ValueError, TypeError)):
                function(*changed, *rest)


def test_winners_must_be_writeable(full):
    winners = np.full(40, -1, np.int32)
    winners.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        _core.full_expect(*full, None, winners, [], 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("D", [4, 300])
def test_the_first_sample_without_density_is_named(dtype, D, rng):
    X = rng.standard_normal((5000, D)).astype(dtype)
    lacking = [1700, 2600, 4999]
    X[lacking] = 0
    X[lacking, 0] = np.nan, np.inf, np.nan
    spectral = X**2, np.ones(D), np.ones((3, D)), np.zeros(3)
    factorize = _core.full_factorize_float32 if dtype == np.float32 else _core.full_factorize_float64
    full = X, np.zeros((3, D)), factorize(np.tile(np.eye(D), (3, 1, 1)), 1)[0], np.zeros(3)
    for threads in (1, 2, 3):
        with pytest.raises(_core.NoDensity) as caught:
            _core.spectral_expect(*spectral, None, threads)
        assert caught.value.args[0] == lacking[0]
        with pytest.raises(_core.NoDensity) as caught:
            _core.full_expect(*full, None, np.full(5000, -1, np.int32), [], threads)
        assert caught.value.args[0] == lacking[0]
        assert isinstance(caught.value, ValueError)
        for gamma, log_p in (_core.spectral_posterior(*spectral, threads), _core.full_posterior(*full, threads)):
            assert np.flatnonzero(np.isnan(log_p)).tolist() == lacking
            assert np.isnan(gamma[lacking]).all()
            others = np.delete(np.arange(5000), lacking)
            np.testing.assert_allclose(gamma[others].sum(axis=1), 1, rtol=1e-5)


# Threads, signals, and the end


def test_transforms_of_many_shapes_planned_beside_pyfftw():
    assert "Error" not in run_script("""
import threading, numpy as np, pyfftw
from convgmm import _core, _fftw
_fftw.provide()
def ours(first):
    for i in range(first, 400, 2):
        for dtype in (np.float32, np.float64):
            _core.squared_coefficients(np.ones((1, (i + 2) * 3), dtype), (i + 2, 3), True, 1)
def theirs(first):
    for i in range(first, 400, 2):
        for dtype in (np.float32, np.float64):
            pyfftw.builders.rfft2(np.ones((i + 2, 5), dtype), planner_effort="FFTW_ESTIMATE")()
threads = [threading.Thread(target=work, args=(first,)) for work in (ours, theirs) for first in (0, 1)]
for thread in threads: thread.start()
for thread in threads: thread.join()
""")


@pytest.mark.parametrize("n_daemons", [1, 4])
def test_the_interpreter_ends_while_daemon_threads_are_in_the_core(n_daemons):
    for _ in range(3):
        errors = run_script(f"""
import threading, time, numpy as np
from convgmm import _core
P = np.random.default_rng(0).exponential(size=(100_000, 30))
constants = np.zeros(20)
spectra = np.random.default_rng(0).uniform(0.5, 1, (20, 30))
def fit():
    while True:
        _core.spectral_expect(P, np.ones(30), spectra, constants, None, 2)
for _ in range({n_daemons}): threading.Thread(target=fit, daemon=True).start()
time.sleep(0.3)
""")
        assert errors == ""


def test_the_ending_thread_may_still_call():
    assert "called" in run_script("""
import atexit, sys, numpy as np
def late():
    from convgmm import _core
    _core.project(np.ones((2, 2)), np.zeros(2), np.eye(2), 1)
    print("called", file=sys.stderr)
atexit.register(late)
import convgmm._core
""")


def test_a_child_forked_off_the_main_thread_ends():
    """Its other threads' calls are not its own, and it takes signals."""
    run_script("""
import os, signal, threading, time, numpy as np
from convgmm import _core
P = np.ones((300_000, 30))
def expect(): return _core.spectral_expect(P, np.ones(30), np.ones((20, 30)), np.zeros(20), None, 2)
stop = False
def keep_busy():
    while not stop: expect()
busy = threading.Thread(target=keep_busy)
busy.start()
time.sleep(0.1)
statuses = []
def fork():
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyError))
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            while True: expect()
        except KeyError:
            import atexit
            atexit._run_exitfuncs()
            os._exit(7)
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
forker = threading.Thread(target=fork)
forker.start()
forker.join(60)
stop = True
busy.join()
assert statuses == [7], statuses
""")


def test_calls_from_many_threads_give_the_same(spectral):
    expected = _core.spectral_posterior(*spectral, 1)[0]
    assert threading.current_thread() is threading.main_thread()
    with ThreadPoolExecutor(4) as pool:
        for gamma in pool.map(lambda _: _core.spectral_posterior(*spectral, 2)[0], range(40)):
            np.testing.assert_array_equal(gamma, expected)

"""EM itself: its monitor, its values, and how an iteration is judged."""

import warnings

import numpy as np
import pytest

from convgmm import ConvGMM, LikelihoodWarning, Monitor, Progress
from convgmm.basis import Fourier
from convgmm.em import Batch, Options, run
from convgmm.families import Assign, Full, Spectral
from convgmm.families.full import FullStart, MomentStatistics
from convgmm.families.spectral import SpectralStart
from convgmm.problem import Problem
from convgmm.source import Block, InMemory


def converged(*bounds, **options):
    return Monitor().converged(Progress(bounds, **({"tol": 1e-3} | options)))


def test_a_fall_of_the_likelihood_is_said():
    assert not converged(1.0, rounding=1e-6)
    assert not converged(1.0, 0.9, rounding=1e-6, exempt=True)
    with pytest.warns(LikelihoodWarning, match="fell by 0.1 nats in iteration 2"):
        assert not converged(1.0, 0.9, 0.8, rounding=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert converged(0.8, 0.8 - 1e-7, rounding=1e-6)  # no more than rounding
        assert converged(0.8, 0.8, rounding=1e-6)


def test_a_fall_that_is_no_surprise_converges_if_it_is_small():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not converged(1.0, rounding=1e-9, may_fall=True)
        assert not converged(1.0, 0.9, rounding=1e-9, may_fall=True)  # a real fall
        assert converged(0.9, 0.8995, rounding=1e-9, may_fall=True)
    with pytest.warns(LikelihoodWarning):
        assert not converged(1.0, 0.9995, rounding=1e-9)


def test_tol_zero_never_converges():
    assert not converged(1.0, 1.0, tol=0, rounding=1e-6, may_fall=True)


def test_random_bounds_are_averaged():
    bounds = (1.0, 3.0, 2.0, 1.0, 3.0, 2.0)
    assert converged(*bounds, window=3)
    assert not converged(*bounds[:-1], window=3)
    assert not converged(*bounds[1:], 2.1, window=3)


def test_an_earlier_run_is_gone_on_from():
    assert converged(1.0005, previous=1.0, rounding=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the samples may be others
        assert not converged(0.5, previous=1.0, rounding=1e-6)


def test_moments_about_other_points_add_up(rng):
    X, gamma = rng.standard_normal((80, 4)), rng.uniform(size=(80, 3))

    def moments(rows, origin):
        apart = X[rows, None] - origin
        weight = gamma[rows]
        second = np.einsum("nk,nki,nkj->kij", weight, apart, apart)
        return MomentStatistics(origin, weight.sum(axis=0), np.einsum("nk,nki->ki", weight, apart), second, 1.0)

    one, other = rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
    whole, parts = moments(slice(None), one), moments(slice(50), one) + moments(slice(50, 80), other)
    for name in ("origin", "responsibility", "first", "second"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-12, atol=1e-12)


def test_a_source_in_memory_leaves_out_samples_of_weight_zero():
    X = np.arange(10.0).reshape(5, 2)
    block = InMemory(X, np.array([0.0, 2.0, 0.0, 1.0, 4.0])).block
    np.testing.assert_array_equal(block.samples, X[[1, 3, 4]])
    np.testing.assert_array_equal(block.weight / block.weight[0], [1, 0.5, 2])
    assert [block.number(i) for i in range(3)] == [1, 3, 4]
    assert InMemory(X).block.samples is X
    assert InMemory(X, np.full(5, 1e308)).block.weight.max() <= 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("family", [Spectral(Fourier((9,), True)), Full()], ids=["Spectral", "Full"])
def test_hard_and_drawn_assignments(family, dtype, rng):
    X = rng.standard_normal((4000, 9)).astype(dtype)
    X[2000:] = X[2000:].cumsum(axis=1)
    problem = Problem.of(family, InMemory(X), 2)
    given = (
        SpectralStart(3, "kmeans++", None, None)
        if isinstance(family, Spectral)
        else FullStart(3, "kmeans++", *[None] * 4)
    )
    data = problem.data
    start = problem.start(given, np.random.RandomState(0))
    prepared = family.prepare(start, problem.frame, problem.dtype, 2)
    gamma, _ = family.posterior(prepared, data.values, 2)

    def shares(algorithm, iteration=0):
        return algorithm.step(problem, start, prepared, iteration)[0].responsibility

    np.testing.assert_array_equal(shares(Batch(Assign("hard"))), np.bincount(gamma.argmax(axis=1), minlength=3))
    np.testing.assert_allclose(shares(Batch()), gamma.sum(axis=0), rtol=1e-5)
    drawn = np.stack([shares(Batch(Assign("draw", seed=5)), iteration) for iteration in range(200)])
    assert (drawn.sum(axis=1) == 4000).all()
    deviation = np.sqrt((gamma * (1 - gamma)).sum(axis=0) / 200)
    np.testing.assert_array_less(np.abs(drawn.mean(axis=0) - gamma.sum(axis=0)), 5 * deviation + 1e-3)
    assert len(np.unique(drawn, axis=0)) > 20
    np.testing.assert_array_equal(shares(Batch(Assign("draw", seed=5)), 7), drawn[7])


class TwoBlocks:
    """A source of more than one block."""

    def __init__(self, X, cut):
        self.parts = [Block(X[:cut]), Block(X[cut:], first=cut)]

    def blocks(self):
        yield from self.parts


@pytest.mark.parametrize("family", [Spectral(Fourier((9,), True)), Full()], ids=["Spectral", "Full"])
def test_blocks_add_up_to_the_whole(family, rng):
    X = rng.standard_normal((600, 9))
    X[300:] = X[300:].cumsum(axis=1)
    given = (
        SpectralStart(3, "kmeans++", None, None)
        if isinstance(family, Spectral)
        else FullStart(3, "kmeans++", *[None] * 4)
    )
    courses = []
    for source in (InMemory(X), TwoBlocks(X, 250)):
        problem = Problem.of(family, source, 1)
        start = problem.start(given, np.random.RandomState(0))
        fits = list(run(problem, start, Options(tol=0, max_iter=6, prune_threshold=0)))
        courses.append((fits[-1].lower_bounds, family.to_arrays(fits[-1].parameters, problem.frame, 1)))
    np.testing.assert_allclose(courses[1][0], courses[0][0], rtol=1e-10)
    for name, array in courses[0][1].items():
        np.testing.assert_allclose(courses[1][1][name], array, rtol=1e-8, atol=1e-10)


def test_a_start_out_of_reach_of_the_number_format_is_refused(rng):
    X = rng.standard_normal((300, 6, 6)) * 1e3
    with pytest.raises(ValueError, match="too far from the samples"):
        ConvGMM(1, spectra_init=np.full((1, 6, 6), 1e-299), max_iter=1).fit(X)

"""Samples that are read block by block, anew for every pass."""

import tracemalloc
import warnings

import numpy as np
import pytest
from sklearn import config_context

from convgmm import ConvGMM, FullGMM
from convgmm.reservoir import Drawing, Reservoir, uniform
from convgmm.source import Block, Blocks, Rows
from registry import ENTRIES, MIXTURES, arrays, assert_same

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(params=MIXTURES, ids=lambda entry: entry.name)
def mixture(request):
    return request.param


class Parts:
    """Yields an array in parts, as often as it is asked, with weights if there are any."""

    def __init__(self, X, cuts, weight=None):
        self.X, self.cuts, self.weight = X, [0, *cuts, len(X)], weight
        self.n_passes = 0

    def __iter__(self):
        self.n_passes += 1
        for first, last in zip(self.cuts, self.cuts[1:], strict=False):
            rows = self.X[first:last]
            yield rows if self.weight is None else (rows, self.weight[first:last])


def assert_close(a, b, rtol=1e-8, atol=1e-9):
    for left, right in zip(arrays(a), arrays(b), strict=True):
        np.testing.assert_allclose(left, right, rtol=rtol, atol=atol)


@pytest.mark.parametrize("algorithm", ["em", "hard", "stochastic"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_stream_is_the_whole(mixture, algorithm, weighted):
    X = mixture.samples()
    weight = np.random.default_rng(0).integers(0, 3, len(X)) * 1.5 if weighted else None
    options = {"tol": 0, "max_iter": 5, "algorithm": algorithm}
    whole = mixture.make(**options).fit(X, sample_weight=weight)
    for cuts in ([130], [1, 2, 250, 250]):
        parts = Parts(X, cuts, weight)
        assert_close(mixture.make(**options).fit(parts), whole)
        assert parts.n_passes == 7  # the first block's look, the survey, and five iterations


def test_a_large_memory_mapped_array_is_a_stream(mixture, tmp_path, monkeypatch):
    X = mixture.samples()
    weight = np.random.default_rng(0).integers(0, 3, len(X))
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    whole = mixture.make(max_iter=3).fit(X, sample_weight=weight)
    monkeypatch.setattr("convgmm.source.BLOCK_VALUES", 100 * X[0].size)
    seen = []
    blocks = Blocks.blocks
    monkeypatch.setattr(Blocks, "blocks", lambda self: (seen.append(len(b.samples)) or b for b in blocks(self)))
    with config_context(working_memory=0):
        streamed = mixture.make(max_iter=3)
        predicted = streamed.fit_predict(mapped, sample_weight=weight)
    assert max(seen) <= 100 < sum(seen)
    assert_close(streamed, whole)
    np.testing.assert_array_equal(predicted, streamed.predict(X))
    with pytest.raises(ValueError, match="sample_weight"), config_context(working_memory=0):
        mixture.make().fit(mapped, sample_weight=weight[:-1])


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_large_memory_mapped_array_is_answered_piece_by_piece(mixture, dtype, tmp_path, monkeypatch):
    X = np.round(20 * mixture.samples()).astype(dtype)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    fitted = mixture.make(max_iter=3).fit(X)
    asked = ("predict", "predict_proba", "log_density", "score_samples", "transform")
    expected = [getattr(fitted, name)(X) for name in asked]
    at_once = []
    read = type(fitted)._read
    monkeypatch.setattr(type(fitted), "_read", lambda self, part: (at_once.append(len(part)), read(self, part))[1])
    monkeypatch.setattr("convgmm.source.BLOCK_VALUES", 100 * X[0].size)
    with config_context(working_memory=0):
        for name, answer in zip(asked, expected, strict=True):
            at_once.clear()
            found = getattr(fitted, name)(mapped)
            assert found.dtype == answer.dtype
            np.testing.assert_array_equal(found, answer)
            assert max(at_once) <= 100
            assert sum(at_once) == len(X)
        again = mixture.make(max_iter=3)
        at_once.clear()
        np.testing.assert_array_equal(again.fit_predict(mapped), again.predict(X))
        assert max(at_once[:-1]) <= 100  # the last one asked for all of X
        fitted.fit_transform(mapped)


def test_a_stream_has_one_score(mixture):
    X = mixture.samples()
    weight = np.random.default_rng(1).integers(0, 3, len(X)).astype(np.float64)
    fitted = mixture.make(max_iter=2).fit(X)
    repeated = np.repeat(X, weight.astype(int), axis=0)
    for name in ("score", "aic", "bic"):
        ask = getattr(fitted, name)
        assert ask(Parts(X, [0, 130])) == pytest.approx(ask(X), rel=1e-12)
        assert ask(Parts(X, [0, 130], weight)) == pytest.approx(ask(repeated), rel=1e-12)
    with pytest.raises(ValueError, match="weight of every sample is zero"):
        fitted.score(Parts(X, [130], np.zeros(len(X))))
    for name in ("predict", "score_samples", "transform"):
        with pytest.raises(ValueError, match="block by block"):
            getattr(fitted, name)(Parts(X, [130]))


def test_streams_that_cannot_be_fitted_say_why(mixture):
    X = mixture.samples()
    estimator = mixture.make(max_iter=2)
    for given, error, message in (
        ((part for part in [X]), TypeError, "only once"),
        (Parts(X[:0], []), ValueError, "0 sample"),
        (Parts(X[:1], []), ValueError, "n_components"),
        (Parts(X, [200], np.zeros(len(X))), ValueError, "zero for every sample"),
        (Parts(X, [200], -np.ones(len(X))), ValueError, "not negative"),
        (Parts(np.where(np.arange(len(X)).reshape(-1, 1, 1) == 300, np.nan, X), [200]), ValueError, "block 1 .*NaN"),
        ({"one", "two"}, ValueError, "convert|block 0"),
    ):
        with pytest.raises(error, match=message):
            estimator.fit(given)
    with pytest.raises(ValueError, match="sample_weight"):
        estimator.fit(Parts(X, [200]), sample_weight=np.ones(len(X)))
    with pytest.raises(ValueError, match="block by block"):
        estimator.fit_predict(Parts(X, [200]))

    class Other:
        def __iter__(self):
            yield X[:200]
            yield X[200:, :1]

    with pytest.raises(ValueError, match="block 1 holds samples of shape"):
        estimator.fit(Other())

    class Fewer(Parts):
        def __iter__(self):
            for part in super().__iter__():
                yield part[self.n_passes :]

    class OtherBlocks(Parts):
        def __iter__(self):
            self.cuts[1] += 1
            yield from super().__iter__()

    class MoreBlocks(Parts):
        def __iter__(self):
            yield from super().__iter__()
            if self.n_passes > 2:
                yield self.X[:20]

    for changing in (Fewer, OtherBlocks, MoreBlocks):
        with pytest.raises(ValueError, match="the same samples every time, in the same blocks"):
            estimator.fit(changing(X, [200]))
    assert not estimator.__sklearn_is_fitted__()


def test_a_sample_without_density_is_named_by_the_callers_number():
    X = np.random.default_rng(0).standard_normal((400, 8))
    weight = np.ones(400)
    weight[:100] = 0
    X[230] *= 1e70
    with pytest.raises(ValueError, match="sample 230 has no finite"):
        ConvGMM(2, spectra_init=np.full((2, 8), 1e-170)).fit(Parts(X, [150, 220], weight))


def test_what_depends_on_all_samples_cannot_be_given_for_a_stream():
    X = np.random.default_rng(0).standard_normal((400, 8))
    with pytest.raises(ValueError, match="resp_init"):
        FullGMM(2, resp_init=np.full((400, 2), 0.5)).fit(Parts(X, [200]))


@pytest.mark.parametrize("weighted", [False, True])
def test_a_reservoir_does_not_depend_on_blocks(weighted, rng):
    X = rng.standard_normal((3000, 3))
    weight = rng.exponential(size=3000) if weighted else None

    def blocks(cuts):
        for first, last in zip([0, *cuts], [*cuts, 3000], strict=True):
            yield Block(X[first:last], None if weight is None else weight[first:last], first)

    whole = Reservoir.of(next(blocks([])), 5, 100)
    uniforms = uniform(5, np.arange(3000))
    keys = -np.log(uniforms) / (1 if weight is None else weight)
    np.testing.assert_array_equal(whole.places, np.sort(np.argsort(keys)[:100]))
    for cuts in ([10, 50, 51, 1200], [2999], list(range(100, 3000, 100))):
        drawing = Drawing(5, 100)
        summed = None
        for block in blocks(cuts):
            drawing.add(block)
            one = Reservoir.of(block, 5, 100)
            summed = one if summed is None else summed + one
        for found in (drawing.reservoir(), summed):
            np.testing.assert_array_equal(found.places, whole.places)
            np.testing.assert_array_equal(found.block().samples, X[whole.places])
            assert found.block().weight is None
            assert found.n_seen == 3000
    all_of_them = Reservoir.of(next(blocks([])), 5, 4000).block()
    np.testing.assert_array_equal(all_of_them.samples, X)
    assert (all_of_them.weight is None) == (weight is None)
    assert abs(uniforms.mean() - 0.5) < 5 * np.sqrt(1 / 12 / 3000)
    assert not np.array_equal(uniforms, uniform(6, np.arange(3000)))


def test_reservoirs_add_up_in_the_memory_of_what_they_keep(rng):
    X = rng.standard_normal((6000, 200))
    drawing = Drawing(5, 5000)
    for first in range(0, 6000, 1000):
        drawing.add(Block(X[first : first + 1000], None, first))
    tracemalloc.start()
    try:
        kept = drawing.reservoir()
        assert tracemalloc.get_traced_memory()[1] < 1.1 * kept.samples.nbytes + 1024 * X[0].nbytes
    finally:
        tracemalloc.stop()


def test_heavy_samples_are_drawn_more_often(rng):
    weight = np.where(np.arange(20000) < 10000, 1.0, 3.0)
    X = np.zeros((20000, 1))
    drawn = Reservoir.of(Block(X, weight), 0, 1000)
    assert abs((drawn.places >= 10000).mean() - 0.75) < 0.06


def test_a_bounded_start_is_good_and_the_same_for_other_blocks(mixture, monkeypatch):
    X = mixture.samples(4000)
    monkeypatch.setattr("convgmm.reservoir.RESERVOIR_BYTES", 500 * X[0].nbytes)
    options = {"tol": 0, "max_iter": 15}
    one, two = (mixture.make(**options).fit(Parts(X, cuts)) for cuts in ([2000], [700, 1900, 3999]))
    assert_close(one, two, rtol=1e-6, atol=1e-7)
    assert one.lower_bound_ > mixture.make(**options).fit(X).lower_bound_ - 0.5


def test_the_likelihood_of_a_stream_never_falls(mixture):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bounds = mixture.make(max_iter=30, tol=1e-3).fit(Parts(mixture.samples(), [170])).lower_bounds_
    assert (np.diff(bounds) > -1e-6).all()


@pytest.mark.parametrize("algorithm", ["hard", "stochastic"])
def test_other_assignments_reach_as_good_a_model(mixture, algorithm):
    X = mixture.samples(3000)
    em, other = (mixture.make(max_iter=100, algorithm=name).fit(X) for name in ("em", algorithm))
    assert em.score(X) - 0.5 < other.score(X) < em.score(X) + 0.5
    assert other.converged_
    assert_same(mixture.make(max_iter=100, algorithm=algorithm, n_threads=1).fit(X), other)


@pytest.mark.parametrize("weighted", [False, True])
def test_layers_of_a_stream(weighted):
    entry = next(entry for entry in ENTRIES if entry.name == "DeepGMM")
    X = entry.samples()
    weight = np.random.default_rng(0).integers(0, 3, len(X)) * 1.5 if weighted else None
    options = {"tol": 0, "max_iter": 5}
    whole = entry.make(**options).fit(X, sample_weight=weight)
    parts = Parts(X, [130, 130, 250], weight)
    streamed = entry.make(**options).fit(parts)
    assert_close(streamed, whole, rtol=1e-6, atol=1e-7)
    assert parts.n_passes == 14  # each layer's look at the first block, its survey, and its iterations
    np.testing.assert_array_equal(streamed.predict(X), whole.predict(X))
    with pytest.raises(TypeError, match="only once"):
        entry.make().fit(part for part in [X])
    for ask in ("fit_predict", "fit_transform"):
        with pytest.raises(ValueError, match="block by block"):
            getattr(entry.make(), ask)(parts)
    with pytest.raises(ValueError, match="layer 0.*sample_weight"):
        entry.make().fit(Parts(X, [130]), sample_weight=np.ones(len(X)))


def test_rows_are_those_of_the_array():
    X = np.arange(24.0).reshape(6, 2, 2)
    np.testing.assert_array_equal(np.concatenate(list(Rows(X))), X)


class Again:
    """Blocks as they are given."""

    def __init__(self, blocks):
        self.blocks = blocks

    def __iter__(self):
        return iter(self.blocks)


def test_blocks_with_and_without_weights_are_refused():
    X = np.random.default_rng(0).standard_normal((60, 8))
    weight = np.full(30, 8.0)
    for blocks in ([X[:30], (X[30:], weight)], [(X[:30], weight), X[30:]]):
        with pytest.raises(ValueError, match="block 1 of X has .*weights, unlike block 0"):
            ConvGMM(2, max_iter=2).fit(Again(blocks))

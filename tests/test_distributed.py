"""Fits on a Dask cluster, beside fits in memory."""

import os
import pickle
import signal
import warnings
from concurrent.futures import ThreadPoolExecutor
from subprocess import run
from sys import executable
from threading import Timer

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster
from sklearn.base import clone

from convgmm import ConvGMM, DeepGMM, FullGMM, Monitor, TorusGMM, distributed
from convgmm.families.family import SOFT
from convgmm.problem import Problem
from convgmm.source import InMemory

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def client():
    """Return the client of two workers, each a process with one thread."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 6, 6)).cumsum(axis=2)
    X[300:] = X[300:].transpose(0, 2, 1) * 2
    return X


def spectra(K):
    rng = np.random.default_rng(1)
    return abs(np.fft.fft2(rng.standard_normal((K, 6, 6)))) ** 2 / 10 + 0.1


def conv(**options):
    return ConvGMM(3, spectra_init=spectra(3), max_iter=10, tol=0, prune_threshold=0, **options)


def full(**options):
    rng = np.random.default_rng(2)
    return FullGMM(
        3,
        means_init=rng.standard_normal((3, 36)),
        precisions_init=np.stack([np.eye(36)] * 3),
        weights_init=np.full(3, 1 / 3),
        max_iter=10,
        tol=0,
        **options,
    )


def arrays(model):
    return {
        name: getattr(model, name)
        for name in ("weights_", "spectra_", "means_", "covariances_")
        if hasattr(model, name)
    }


def assert_close(model, other, relative):
    np.testing.assert_allclose(model.lower_bounds_, other.lower_bounds_, rtol=relative)
    for name, array in arrays(other).items():
        scale = abs(array).max()
        np.testing.assert_allclose(getattr(model, name), array, rtol=relative, atol=relative * scale, err_msg=name)


@pytest.mark.parametrize("make", [conv, full])
@pytest.mark.parametrize("chunks", [600, 250, (1, 99, 500)])
def test_as_in_memory_whatever_the_chunks(client, samples, make, chunks):
    X = samples.reshape(600, 36) if make is full else samples
    local = make().fit(X)
    model = distributed.fit(make(), da.from_array(X, chunks=(chunks, *X.shape[1:])))
    assert_close(model, local, 1e-10)
    assert model.get_params().keys() == local.get_params().keys()


def test_single_precision(client, samples):
    X = np.tile(samples, (1, 2, 2)).astype(np.float32)
    X += np.random.default_rng(0).standard_normal(X.shape, dtype=np.float32)
    local = ConvGMM(3, spectra_init=np.tile(spectra(3), (1, 2, 2)), max_iter=10, tol=0, prune_threshold=0)
    model = distributed.fit(clone(local), da.from_array(X, chunks=(170, -1, -1)))
    assert_close(model, local.fit(X), 1e-6)


@pytest.mark.parametrize("estimator", [ConvGMM, FullGMM, TorusGMM])
def test_starts_do_not_depend_on_the_chunks(client, samples, estimator):
    X = samples if estimator is not FullGMM else samples.reshape(600, 36)
    options = {"max_iter": 3, "tol": 0, "random_state": 3}
    models = [
        distributed.fit(estimator(3, **options), da.from_array(X, chunks=(rows, *X.shape[1:]))) for rows in (600, 130)
    ]
    assert_close(*models, 1e-8)


def test_weights_as_in_memory(client, samples):
    weight = np.random.default_rng(0).integers(0, 3, 600) * 0.7
    weight[:150] = 0  # a whole block
    local = conv().fit(samples, sample_weight=weight)
    X = da.from_array(samples, chunks=(150, 6, 6))
    assert_close(distributed.fit(conv(), X, weight), local, 1e-10)
    assert_close(distributed.fit(conv(), X, da.from_array(weight, chunks=77)), local, 1e-10)
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(3,\)"):
        distributed.fit(conv(), X, np.ones(3))
    with pytest.raises(ValueError, match="zero for every sample"):
        distributed.fit(conv(), X, np.zeros(600))


def test_drawn_assignments_as_in_memory(client, samples):
    options = {"algorithm": "stochastic", "random_state": 0}
    local = conv(**options).fit(samples)
    assert_close(distributed.fit(conv(**options), da.from_array(samples, chunks=(170, 6, 6))), local, 1e-10)


def test_callbacks_monitors_and_acceleration_as_in_memory(client, samples):
    X, seen = da.from_array(samples, chunks=(170, 6, 6)), []

    class Sixth(Monitor):
        def converged(self, progress):
            return len(progress.lower_bounds) == 6

    for options in ({"accelerate": "momentum"}, {"accelerate": "squarem"}, {"monitor": Sixth()}):
        assert_close(distributed.fit(conv(**options), X), conv(**options).fit(samples), 1e-9)

    def callback(iteration):
        seen.append(iteration.lower_bound)
        assert iteration.model.n_components == 3
        return iteration.number == 3

    assert distributed.fit(conv(callback=callback), X).lower_bounds_.tolist() == seen
    assert len(seen) == 4


def test_mini_batches_have_their_share_of_every_block(client, samples):
    """By what an epoch of one mini-batch after the other is made of, summed here."""
    weight = np.random.default_rng(0).integers(0, 3, 600).astype(float)
    X = [dask.delayed(part) for part in np.split(samples, [7, 8, 400])]
    family = conv()._family((6, 6))
    for given in (None, weight):
        weights = [None] * 4 if given is None else [dask.delayed(part) for part in np.split(given, [7, 8, 400])]
        parts = distributed.Partitions(client, list(zip(X, weights, strict=True)))
        problem = distributed.Cluster(family, parts, 1)
        local = Problem.of(family, InMemory(samples.reshape(600, 36), given), 1)
        start = local.start(conv()._given_start(family, 600, 36), np.random.RandomState(0))
        prepared = family.prepare(start, local.frame, local.dtype, 1)
        whole = local.expect(prepared, SOFT)
        found = [sums(prepared) for sums in problem.batches(50, np.random.RandomState(0))]
        assert len(found) == -(-problem.n_samples // 50)
        counts = [each.responsibility.sum() for each in found]
        scale = sum(counts) / whole.responsibility.sum()  # a power of 2: only weights' ratios count
        assert np.log2(scale) == pytest.approx(round(np.log2(scale)), abs=1e-12)
        if given is None:
            assert max(counts) < 54
            assert min(counts) > 46
        np.testing.assert_allclose(sum(each.power for each in found), scale * whole.power, rtol=1e-10)
        other = [sums(prepared) for sums in problem.batches(50, np.random.RandomState(1))]
        assert abs(other[0].power / found[0].power - 1).max() > 1e-3


@pytest.mark.parametrize("make", [conv, full])
def test_online_on_a_cluster(client, samples, make):
    X = np.tile(samples, (5, 1, 1))
    X = X.reshape(len(X), -1) if make is full else X
    options = {"algorithm": "online", "batch_size": 300, "random_state": 0}
    fitted = distributed.fit(make(**options), da.from_array(X, chunks=(700, *X.shape[1:])))
    one = make(**options).set_params(max_iter=1)
    again = distributed.fit(clone(one), da.from_array(X, chunks=(700, *X.shape[1:])))
    assert again.score(X) > clone(one).set_params(algorithm="em").fit(X).score(X)
    assert fitted.n_iter_ == 10
    assert (np.diff(fitted.lower_bounds_[1:]) > -1e-5).all()
    assert fitted.score(X) > make(**options).fit(X).score(X) - 0.1


def test_a_fit_on_a_cluster_goes_on_from_a_checkpoint(client, samples, tmp_path, monkeypatch):
    monkeypatch.setattr("convgmm.checkpoint._SHARE_OF_TIME", np.inf)  # written after every iteration
    X, path, seen = da.from_array(samples, chunks=(170, 6, 6)), tmp_path / "fit", []

    class Killed(Exception):
        pass

    def cut(iteration):
        seen.append(iteration.number)
        if len(seen) in (3, 7):
            raise Killed

    for _ in range(2):
        with pytest.raises(Killed):
            distributed.fit(conv(callback=cut, checkpoint=path), X)
    with pytest.raises(ValueError, match="other samples"):
        distributed.fit(conv(checkpoint=path), da.from_array(samples * 2, chunks=(170, 6, 6)))
    resumed = distributed.fit(conv(callback=cut, checkpoint=path), X)
    assert seen == list(range(10))
    assert not path.exists()
    assert_close(resumed, conv().fit(samples), 1e-10)


def test_what_comes_to_the_client_is_bounded(client, samples, monkeypatch):
    """Samples are larger than what the client takes: sums, and of the samples those that a start is drawn from."""
    X = np.tile(samples, (100, 1, 1))
    sizes = []
    gather = Client.gather

    def weighed(self, futures, *arguments, **options):
        answer = gather(self, futures, *arguments, **options)
        sizes.append(len(pickle.dumps(answer)))
        return answer

    monkeypatch.setattr(Client, "gather", weighed)
    set_bound = "import convgmm.reservoir as r; r.RESERVOIR_BYTES = {}".format
    client.run(exec, set_bound(100_000))
    try:
        blocks = [dask.delayed(np.roll)(part, 0) for part in np.split(X, 6)]
        model = distributed.fit(ConvGMM(3, max_iter=5, tol=0, random_state=0), blocks)
    finally:
        client.run(exec, set_bound(1 << 27))
    assert X.nbytes > 16e6
    assert sum(sizes) < 300_000
    assert model.score(X) > ConvGMM(3, max_iter=5, tol=0, random_state=0).fit(X).score(X) - 1


def test_incremental_of_dask_ml(client, samples):
    """Blocks go to `partial_fit` one after the other, on the workers."""
    wrappers = pytest.importorskip("dask_ml.wrappers")
    X = np.tile(samples[np.random.default_rng(0).permutation(600)], (4, 1, 1)).reshape(2400, 36)
    given = da.from_array(X, chunks=(600, 36))
    estimator = ConvGMM(3, patch_shape=(6, 6), random_state=0)
    fitted = wrappers.Incremental(estimator, shuffle_blocks=False).fit(given)
    for block in np.split(X, 4):
        estimator.partial_fit(block)
    np.testing.assert_array_equal(fitted.estimator_.spectra_, estimator.spectra_)
    np.testing.assert_array_equal(fitted.predict(given).compute(), estimator.predict(X))
    np.testing.assert_array_equal(fitted.partial_fit(given).estimator_.n_iter_, 8)


def test_blocks_are_spread_over_threads():
    one = {"a": 1, "b": 1}
    assert distributed.spread(["a", "b", "a", "b"], [9, 10, 10, 10], one) == ["a", "b", "a", "b"]
    assert distributed.spread(["a"] * 5 + ["b"] * 3, [10] * 8, one).count("a") == 4
    assert distributed.spread(["a"] * 3, [10, 10, 10], {"a": 2, "b": 1}).count("a") == 2
    assert distributed.spread(["a", "a"], [7, 0], {"a": 1, "b": 1}) == ["a", "a"]
    assert distributed.spread(["a"], [7], one) == ["a"]
    rng = np.random.default_rng(0)
    threads = {name: int(rng.integers(1, 4)) for name in "abcdef"}
    sizes = rng.integers(50, 150, 200).tolist()
    where = distributed.spread(["a"] * 150 + ["b"] * 50, sizes, threads)
    work = [sum(n for n, at in zip(sizes, where, strict=True) if at == name) / threads[name] for name in threads]
    assert max(work) < 1.1 * sum(sizes) / sum(threads.values())


def test_workers_without_data_take_some(client, samples):
    X = client.scatter([samples[:150], samples[150:300], samples[300:]], workers=[min(client.nthreads())])
    partitions = distributed.Partitions(client, [(part, None) for part in X])
    problem = distributed.Cluster(conv()._family((6, 6)), partitions, 1)
    holders = {worker for workers in client.who_has(problem._held).values() for worker in workers}
    assert holders == set(client.nthreads())
    assert_close(distributed.fit(conv(), X), conv().fit(samples), 1e-10)


def test_delayed_blocks_and_futures(client, samples):
    parts = [samples[:200], samples[200:200], samples[200:]]
    local = conv().fit(samples)
    assert_close(distributed.fit(conv(), [dask.delayed(part) for part in parts]), local, 1e-10)
    assert_close(distributed.fit(conv(), client.scatter(parts)), local, 1e-10)


def test_answers_are_lazy_and_those_of_the_model(client, samples):
    model = conv().fit(samples)
    X = da.from_array(samples, chunks=(170, 6, 6))
    for ask in (distributed.predict, distributed.predict_proba, distributed.score_samples, distributed.transform):
        answer = ask(model, X)
        expected = getattr(model, ask.__name__)(samples)
        assert isinstance(answer, da.Array)
        assert answer.chunks[0] == X.chunks[0]
        assert (answer.shape, answer.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(answer.compute(), expected)
        chosen = ask(model, X[da.from_array(np.arange(600), chunks=170) >= 400])  # whole chunks are empty
        np.testing.assert_array_equal(chosen.compute(), expected[400:])


def test_bad_input_is_refused(client, samples):
    X = da.from_array(samples, chunks=(170, 6, 6))
    with pytest.raises(ValueError, match=r"chunks=\(n, -1, -1\)"):
        distributed.fit(conv(), X.rechunk((170, 3, 6)))
    with pytest.raises(ValueError, match=r"chunks=\(n, -1\)"):
        distributed.predict(conv().fit(samples), X.reshape(600, 36).rechunk((100, 7)))
    with pytest.raises(TypeError, match="from_array"):
        distributed.fit(conv(), samples)
    spoiled = samples.copy()
    spoiled[400, 2, 2] = np.nan
    with pytest.raises(ValueError, match="block 2 of X: .*NaN"):
        distributed.fit(conv(), da.from_array(spoiled, chunks=(170, 6, 6)))
    with pytest.raises(ValueError, match="block 1 holds samples of shape"):
        distributed.fit(conv(), [dask.delayed(samples), dask.delayed(samples[:, :5])])
    with pytest.raises(ValueError, match="constant"):
        distributed.fit(conv(), da.zeros((20, 6, 6), chunks=(5, 6, 6)))
    with pytest.raises(ValueError, match="at least as many samples"):
        distributed.fit(conv(), X[:2])


def test_a_failed_fit_leaves_the_estimator_alone(client, samples):
    model = conv().fit(samples)
    before = model.spectra_
    with pytest.raises(ValueError, match="constant"):
        distributed.fit(model, da.zeros((20, 6, 6), chunks=(5, 6, 6)))
    assert model.spectra_ is before


def test_two_fits_at_once(client, samples):
    X = da.from_array(samples, chunks=(170, 6, 6))
    local = conv().fit(samples)
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(distributed.fit, conv(), X, client=client) for _ in range(2)]:
            assert_close(future.result(), local, 1e-10)


def test_threads_are_the_workers(client, samples):
    assert client.submit(distributed._worker_threads, pure=False).result() == 1


def test_layers_are_refused(client, samples):
    with pytest.raises(TypeError, match="DeepGMM"):
        distributed.fit(DeepGMM([conv(), FullGMM(2)]), da.from_array(samples, chunks=(170, 6, 6)))


@pytest.mark.slow
def test_a_local_cluster_without_a_client(samples):
    """Run without the client of the other tests, which would be found."""
    program = (
        "import numpy as np, dask.array as da\n"
        "from convgmm import ConvGMM, distributed\n"
        "if __name__ == '__main__':\n"
        "    X = da.from_array(np.random.default_rng(0).standard_normal((100, 8)), chunks=(40, 8))\n"
        "    print(distributed.fit(ConvGMM(2, max_iter=5, tol=0, random_state=0), X).n_iter_)\n"
    )
    done = run([executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "5\n", done.stderr


@pytest.mark.slow
def test_killed_workers(samples):
    """A worker that is killed in the middle of a fit costs time, not the fit."""
    X = np.tile(samples, (200, 1, 1))
    model = ConvGMM(3, spectra_init=spectra(3), max_iter=60, tol=0, prune_threshold=0)
    local = clone(model).fit(X)
    for attempt in range(10):
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
            Client(cluster) as client,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            pids = list(client.run(os.getpid).values())
            timer = Timer(0.1 + 0.2 * attempt, os.kill, (pids[attempt % 2], signal.SIGKILL))
            timer.start()
            fitted = distributed.fit(clone(model), da.from_array(X, chunks=(10_000, 6, 6)), client=client)
            timer.join()
            assert_close(fitted, local, 1e-10)


def test_samples_that_cannot_be_made_again_are_said_to_be_lost(samples):
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        parts = client.scatter([samples[:300], samples[300:]])
        problem = distributed.Cluster(
            ConvGMM(2)._family((6, 6)), distributed.Partitions(client, [(part, None) for part in parts]), 1
        )
        client.restart()
        with pytest.raises(RuntimeError, match="cannot be computed anew"):
            problem.expect(None, SOFT)

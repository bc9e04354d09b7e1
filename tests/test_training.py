"""Every way to train beside plain EM in one go: mini-batches, acceleration, callbacks, checkpoints."""

import pickle
import signal
import warnings
from pathlib import Path
from subprocess import run
from sys import executable

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from convgmm import ConvGMM, FullGMM, Monitor
from convgmm.algorithms import LastHalf, Pace, Stepwise
from convgmm.families import CollapseError
from convgmm.problem import Problem, shuffled
from convgmm.source import InMemory
from registry import MIXTURES, arrays, assert_same

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(params=MIXTURES, ids=lambda entry: entry.name)
def mixture(request):
    return request.param


class Parts:
    """Yields an array in parts, as often as it is asked."""

    def __init__(self, X, *cuts):
        self.parts = np.split(X, cuts)

    def __iter__(self):
        return iter(self.parts)


# ---- mini-batches ----------------------------------------------------------------------------------------------------


def test_mini_batches_are_all_samples_once(mixture):
    X = mixture.samples().reshape(400, -1)
    weight = np.random.default_rng(0).integers(0, 3, 400)
    family = mixture.make()._family(mixture.shape)
    for given in (None, weight):
        problem = Problem.of(family, InMemory(X, None if given is None else given.astype(float)), 1)
        parts = list(shuffled(problem.data, 70, np.random.RandomState(0)))
        assert {len(part.values) for part in parts} <= set(range(50, 71))
        numbers = np.concatenate([part.block.numbers for part in parts])
        expected = np.arange(400) if given is None else np.flatnonzero(weight)
        np.testing.assert_array_equal(np.sort(numbers), expected)
        assert not np.array_equal(numbers, expected)
        place = np.searchsorted(expected, numbers)
        np.testing.assert_array_equal(np.concatenate([part.values for part in parts]), problem.data.values[place])
        if given is not None:
            kept = np.concatenate([part.block.weight for part in parts])
            np.testing.assert_array_equal(kept, problem.data.block.weight[place])


def test_a_step_is_that_of_the_formula(mixture):
    """S ← (1 − a) S + a S_batch with statistics of a weight of 1, by dense sums."""
    X = mixture.samples(600)
    estimator = mixture.make(max_iter=2).fit(X[:400])
    model = estimator.model_
    family, frame = model.family, model.frame
    parameters = family.from_arrays(model.arrays, frame, 1)
    state = Stepwise.at(family, parameters, frame)
    data = family.represent(family.read(InMemory(X[400:].reshape(200, -1)).block, 1), frame, 1)
    batch = family.expect(family.prepare(parameters, frame, data.values.dtype, 1), data, 1)
    after = state.after(family, frame, batch, Pace(0.6, 1.0))
    if state.statistics is not None:
        rate = 2**-0.6
        expected = (1 - rate) * model.weights + rate * model.posterior(X[400:].reshape(200, -1), 1)[0].mean(axis=0)
        np.testing.assert_allclose(after.parameters.weights, expected, rtol=1e-6)
        fixed = family.maximize(state.statistics * 5.0, parameters, frame)  # what a mixture expects keeps it
        for name, array in family.to_arrays(fixed, frame, 1).items():
            np.testing.assert_allclose(array, model.arrays[name], rtol=1e-4, atol=1e-6, err_msg=name)
    assert after.n_steps == 1


def test_steps_become_smaller():
    pace = Pace(0.7, 0.1)
    assert [pace.rate(t) for t in (0, 1000)] == [0.1, 1002**-0.7]
    t = pace.steps_until(0.01)
    assert pace.rate(t) <= 0.01 < pace.rate(t - 1)
    assert pace.steps_until(1.0) == 0


def test_mini_batches_have_what_components_need():
    conv, full = ConvGMM(200), FullGMM(200)
    assert [conv.set_params(n_components=K)._mini_batches(conv._family((8, 8)), 64)[0] for K in (32, 200)] == [250, 500]
    size, pace = full._mini_batches(full._family((64,)), 64)
    assert (size, pace) == (3200, Pace(0.7, 1 / 16))
    assert full._mini_batches(full._family((64,)), 64, 20_000)[0] == 20_000
    scaled = FullGMM(200, means="zero", scales=3)
    assert scaled._mini_batches(scaled._family((64,)), 64) == (size, pace)
    full.set_params(batch_size=512, step_exponent=0.6)
    assert full._mini_batches(full._family((64,)), 64, 20_000) == (512, Pace(0.6, 0.01))


def test_an_epoch_ends_with_the_sums_of_its_last_half():
    last = LastHalf(2)
    batches = list(last.of([lambda factor, n=n: np.array([n * factor]) for n in (1.0, 2.0, 4.0, 8.0)]))
    assert [float(sums(10)[0]) for sums in batches] == [10, 20, 40, 80]
    assert last.total == 120


@pytest.mark.parametrize("streamed", [False, True])
def test_one_epoch_is_worth_more_than_an_iteration(mixture, streamed):
    X = mixture.samples(6000)
    online = mixture.make(max_iter=1, algorithm="online", batch_size=500)
    one = mixture.make(max_iter=1)
    given = Parts(X[np.random.default_rng(0).permutation(6000)], 2500) if streamed else X
    assert online.fit(given).score(X) > one.fit(X).score(X)
    assert online.n_iter_ == 1
    assert_same(mixture.make(max_iter=1, algorithm="online", batch_size=500, n_threads=1).fit(given), online)


def test_full_iterations_follow_the_epochs(mixture):
    X = mixture.samples(3000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = mixture.make(max_iter=9, tol=0, algorithm="online", n_epochs=2, batch_size=300).fit(X)
    assert fitted.n_iter_ == 9
    assert (np.diff(fitted.lower_bounds_[2:]) > -1e-5).all()
    assert mixture.make(max_iter=60, algorithm="online", batch_size=300).fit(X).converged_


def test_blocks_that_are_not_seen_again(mixture):
    X = mixture.samples(8000)[np.random.default_rng(0).permutation(8000)]
    estimator, scores = mixture.make(), []
    for block in np.split(X, 8):
        assert estimator.partial_fit(block) is estimator
        scores.append(estimator.score(X))
    assert len(estimator.lower_bounds_) == estimator.n_iter_ == 8
    assert scores[-1] > scores[0] + 0.01
    copy = pickle.loads(pickle.dumps(estimator))
    assert_same(copy.partial_fit(X[:500]), estimator.partial_fit(X[:500]))
    weight = np.random.default_rng(0).integers(0, 2, 500)
    estimator.partial_fit(X[:500], sample_weight=weight)
    before = arrays(estimator)
    for spoilt in (X[:500, :, :-1], np.where(X[:500] > 2, np.nan, X[:500])):
        with pytest.raises(ValueError, match=r"features|shape|NaN"):
            estimator.partial_fit(spoilt)
    for left, right in zip(arrays(estimator), before, strict=True):
        np.testing.assert_array_equal(left, right)


def test_partial_fit_goes_on_from_a_fit(mixture, tmp_path):
    X = mixture.samples(2000)
    fitted = mixture.make(max_iter=20).fit(X)
    score = fitted.score(X)
    fitted.save(tmp_path / "model")
    loaded = type(fitted).load(tmp_path / "model")
    rows = np.random.default_rng(0).permutation(2000)[:1000]
    assert_same(loaded.partial_fit(X[rows]), fitted.partial_fit(X[rows]))
    assert fitted.score(X) > score - 0.3
    with pytest.raises(ValueError, match="n_components"):
        mixture.make(n_components=5).partial_fit(X[:4])
    with pytest.raises((ValueError, TypeError), match="block"):
        mixture.make().partial_fit(Parts(X, 100))


# ---- acceleration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accelerate", ["momentum", pytest.param("squarem", marks=pytest.mark.slow)])
def test_accelerated_em_never_falls_and_takes_fewer_passes(mixture, accelerate):
    n_passes = np.zeros(2)
    for seed in range(3):
        X = mixture.samples(1000, seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", ConvergenceWarning)
            plain = mixture.make(tol=0, max_iter=100).fit(X)
            fast = mixture.make(tol=0, max_iter=100, accelerate=accelerate).fit(X)
        assert (np.diff(fast.lower_bounds_) > -1e-7 * (1 + abs(fast.lower_bounds_[1:]))).all()
        assert fast.n_iter_ == len(fast.lower_bounds_) == 100
        target = min(plain.lower_bound_, fast.lower_bound_) - 0.001
        n_passes += [np.argmax(fitted.lower_bounds_ > target) + 1 for fitted in (plain, fast)]
        reached = fast.lower_bound_
        fast.set_params(max_iter=1, accelerate=None, warm_start=True).fit(X)
        assert fast.lower_bound_ > reached - 1e-7 * (1 + abs(reached))  # no extrapolation is kept unseen
    assert n_passes[1] < n_passes[0]


def test_coordinates_lead_back(mixture):
    X = mixture.samples()
    model = mixture.make(max_iter=3).fit(X).model_
    family, frame = model.family, model.frame
    parameters = family.from_arrays(model.arrays, frame, 1)
    back = family.at_coordinates(family.coordinates(parameters, frame), parameters, frame)
    for name, array in family.to_arrays(back, frame, 1).items():
        np.testing.assert_allclose(array, model.arrays[name], rtol=1e-6, atol=1e-9, err_msg=name)


def test_what_a_coordinate_means(mixture):
    """The mean log-likelihood of samples whose components are known falls by half the information of a step."""
    X = mixture.samples(20000)
    estimator = mixture.make(n_components=1, max_iter=200, tol=1e-9).fit(X)
    family, frame = estimator.model_.family, estimator.model_.frame
    parameters = family.from_arrays(estimator.model_.arrays, frame, 1)
    information = family.information(parameters, frame)
    at = family.coordinates(parameters, frame)
    assert information.shape == at.shape
    assert (information >= 0).all()
    data = family.represent(family.read(InMemory(X.reshape(len(X), -1)).block, 1), frame, 1)

    def bound(coordinates):
        prepared = family.prepare(family.at_coordinates(coordinates, parameters, frame), frame, data.values.dtype, 1)
        return family.expect(prepared, data, 1).log_likelihood / len(X)

    rng = np.random.default_rng(0)
    lost, told = [], []
    for _ in range(20):
        step = 0.01 * rng.standard_normal(len(at)) / np.sqrt(np.maximum(information, 1e-12))
        step[information < 1e-6] = 0
        lost.append(2 * bound(at) - bound(at + step) - bound(at - step))
        told.append(float(information @ step**2))
    assert 0.2 < np.mean(lost) / np.mean(told) < 2


def test_coordinates_out_of_reach_are_refused(mixture):
    model = mixture.make(max_iter=3).fit(mixture.samples()).model_
    family, frame = model.family, model.frame
    parameters = family.from_arrays(model.arrays, frame, 1)
    with pytest.raises(CollapseError):
        family.at_coordinates(family.coordinates(parameters, frame) + 1e5, parameters, frame)


@pytest.mark.parametrize("algorithm", ["hard", "stochastic"])
def test_only_em_is_accelerated(mixture, algorithm):
    with pytest.raises(ValueError, match="accelerate"):
        mixture.make(accelerate="momentum", algorithm=algorithm).fit(mixture.samples())


# ---- callbacks -------------------------------------------------------------------------------------------------------


def test_a_callback_sees_every_iteration_and_may_stop(mixture):
    X = mixture.samples()
    seen = []

    def callback(iteration):
        seen.append((iteration.run, iteration.number, iteration.lower_bound))
        assert iteration.model.n_components == iteration.n_components
        assert iteration.seconds > 0
        return iteration.run == 0 and iteration.number == 2

    fitted = mixture.make(tol=0, max_iter=5, n_init=2, callback=callback).fit(X)
    assert [(run, number) for run, number, *_ in seen] == [
        (0, 0),
        (0, 1),
        (0, 2),
        (1, 0),
        (1, 1),
        (1, 2),
        (1, 3),
        (1, 4),
    ]
    assert fitted.lower_bound_ == max(seen[2][2], seen[-1][2])
    assert_same(
        mixture.make(tol=0, max_iter=5, n_init=1).fit(X), mixture.make(tol=0, max_iter=5, callback=print).fit(X)
    )

    def fails(iteration):
        raise RuntimeError("told")

    with pytest.raises(RuntimeError, match="told"):
        fitted.set_params(callback=fails).fit(X)
    assert fitted.n_iter_ in (3, 5)


# ---- monitors --------------------------------------------------------------------------------------------------------


class Patience(Monitor):
    """Ends a run when so many iterations in a row have gained less than `tol`."""

    def __init__(self, patience):
        self.patience = patience

    def converged(self, progress):
        super().converged(progress)
        gains = np.diff(progress.lower_bounds)[-self.patience :]
        return len(gains) == self.patience and (gains < progress.tol).all()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_monitor_can_be_replaced(mixture, streamed):
    X = mixture.samples()
    given = Parts(X, 130) if streamed else X
    plain = mixture.make(tol=0.01, max_iter=200).fit(given)
    patient = mixture.make(tol=0.01, max_iter=200, n_init=2, monitor=Patience(4)).fit(given)
    assert plain.converged_
    assert patient.converged_
    gains = np.diff(patient.lower_bounds_)
    assert (gains[-4:] < 0.01).all()
    assert all((gains[i : i + 4] >= 0.01).any() for i in range(len(gains) - 4))
    assert_same(mixture.make(tol=0.01, max_iter=200, monitor=Monitor()).fit(given), plain)
    with pytest.raises(ValueError, match="monitor"):
        mixture.make(monitor=0.1).fit(given)


def test_a_monitor_is_told_what_is_known(mixture):
    told = []

    class Telling:
        def converged(self, progress):
            told.append(progress)
            return len(progress.lower_bounds) == 3

    X = mixture.samples()
    fitted = mixture.make(tol=0.5, monitor=Telling(), n_init=2).fit(X)
    assert [len(progress.lower_bounds) for progress in told] == [1, 2, 3, 1, 2, 3]
    assert fitted.n_iter_ == 3
    assert fitted.converged_
    assert told[2].lower_bounds[-1] - told[2].lower_bounds[-2] == told[2].gain
    assert {progress.tol for progress in told} == {0.5}
    assert all(0 < progress.rounding < 1e-3 for progress in told)
    before = fitted.lower_bound_
    told.clear()
    fitted.set_params(warm_start=True).fit(X)
    assert told[0].previous == before


# ---- checkpoints -----------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


OPTIONS = {
    "em": {},
    "stochastic": {"algorithm": "stochastic"},
    "online": {"algorithm": "online", "batch_size": 100, "n_epochs": 2},
    "momentum": {"accelerate": "momentum"},
    "squarem": {"accelerate": "squarem"},
    "n_init": {"n_init": 3},
    "monitor": {"tol": 0.2, "monitor": Patience(6)},
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "options",
    [pytest.param(each, id=name, marks=[pytest.mark.slow] * (name == "squarem")) for name, each in OPTIONS.items()],
)
def test_a_fit_that_was_cut_off_ends_with_the_same_bits(mixture, options, streamed, tmp_path, monkeypatch):
    monkeypatch.setattr("convgmm.checkpoint._SHARE_OF_TIME", np.inf)  # written after every iteration
    X = mixture.samples()
    given = Parts(X, 130, 131) if streamed else X
    options = {"tol": 0, "max_iter": 8, **options}
    whole = mixture.make(**options).fit(given)
    path = tmp_path / "fit"
    n_cuts, calls = 0, [0]

    def cut(iteration):
        calls[0] += 1
        if calls[0] % 3 == 0:
            raise Killed

    while True:
        estimator = mixture.make(**options, callback=cut, checkpoint=path, n_threads=1 + n_cuts % 2)
        try:
            estimator.fit(given)
            break
        except Killed:
            n_cuts += 1
            assert path.exists()
    assert n_cuts >= 2
    assert not path.exists()
    assert_same(estimator, whole)
    assert estimator.pruned_ == whole.pruned_


def test_a_checkpoint_of_something_else_is_refused(mixture, tmp_path):
    X = mixture.samples()
    path = tmp_path / "fit"

    def cut(iteration):
        raise Killed

    with pytest.raises(Killed):
        mixture.make(callback=cut, checkpoint=path).fit(X)
    content = path.read_bytes()
    other = X.copy()
    other[17, 0, 0] += 1e-6
    for given, options, message in (
        (other, {}, "other samples"),
        (X, {"n_components": 4}, "other n_components"),
        (X, {"weights_init": [0.3, 0.7]} if mixture.make().n_components == 2 else {"tol": 0.5}, "other"),
    ):
        with pytest.raises(ValueError, match=message):
            mixture.make(checkpoint=path, **options).fit(given)
    path.write_bytes(content[:-200] + bytes(200))
    with pytest.raises(ValueError, match="damaged"):
        mixture.make(checkpoint=path).fit(X)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged"):
        mixture.make(checkpoint=path).fit(X)
    assert path.exists()


def test_a_checkpoint_that_cannot_be_written_says_so(mixture, tmp_path):
    with pytest.raises(OSError, match="cannot be written"):
        mixture.make(checkpoint=tmp_path / "no" / "folder").fit(mixture.samples())


KILLED = """
import sys, warnings
sys.path.insert(0, {tests!r})
from registry import MIXTURES
warnings.simplefilter("ignore")
fitted = MIXTURES[0].make(tol=0, max_iter=40, checkpoint={path!r}, callback=lambda it: print(it.number, flush=True))
fitted.fit(MIXTURES[0].samples(2000))
"""


def test_a_killed_process_is_gone_on_from(tmp_path, command):
    path = tmp_path / "fit"
    running = command("-c", KILLED.format(tests=str(Path(__file__).parent), path=str(path)))
    while int(running.process.stdout.readline()) < 20:
        pass
    running.stop(signal.SIGKILL)
    assert path.exists()
    seen = []
    options, X = {"tol": 0, "max_iter": 40}, MIXTURES[0].samples(2000)
    resumed = MIXTURES[0].make(**options, checkpoint=path, callback=lambda it: seen.append(it.number)).fit(X)
    assert seen[0] > 0
    assert_same(resumed, MIXTURES[0].make(**options).fit(X))


KILL_MANY = """
import os, signal, sys, threading, time, warnings
from pathlib import Path
import numpy as np
from tqdm.auto import tqdm
import convgmm.checkpoint
sys.path.insert(0, {tests!r})
from registry import MIXTURES, assert_same
from test_training import OPTIONS, Parts
warnings.simplefilter("ignore")
tqdm.set_lock(threading.RLock())  # its own is shared with forked processes, and one that is killed may hold it
convgmm.checkpoint._SHARE_OF_TIME = np.inf  # written after every iteration
path, model, rng = Path("fit"), Path("model"), np.random.default_rng(0)
n_kills = n_equal = n_while_writing = number = 0
while n_kills < 20:
    entry, (kind, options) = MIXTURES[number % len(MIXTURES)], list(OPTIONS.items())[number % len(OPTIONS)]
    X = entry.samples(1000)
    given = Parts(X, 300, 700) if number // len(OPTIONS) % 2 else X
    make = lambda **more: entry.make(**{{"tol": 0, "max_iter": 30, "n_threads": 1, **options, **more}})
    started = time.monotonic()
    whole = make(checkpoint=path).fit(given)
    longest = time.monotonic() - started
    n_here = 0
    while True:
        child = os.fork()
        if child == 0:
            make(checkpoint=path).fit(given).save(model)
            os._exit(0)
        if n_here < 3:
            time.sleep(rng.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
        if os.WIFEXITED(os.waitpid(child, 0)[1]):
            break
        n_here += 1
        n_while_writing += any(Path().glob(".*"))
        for left in Path().glob(".*"):
            left.unlink()
    try:
        assert_same(type(whole).load(model), whole)
        n_equal += n_here
    except AssertionError as error:
        print(entry.name, kind, n_here, error)
    n_kills += n_here
    number += 1
    print(entry.name, kind, n_here, file=sys.stderr)
print(n_kills, "kills,", n_while_writing, "while the file was written", file=sys.stderr)
print(n_kills - n_equal)
"""


@pytest.mark.slow
def test_twenty_kills_at_any_moment(tmp_path):
    """Of all mixtures, algorithms and kinds of samples; processes that one forks off once everything is imported."""
    program = KILL_MANY.format(tests=str(Path(__file__).parent))
    done = run([executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "0\n", done.stderr

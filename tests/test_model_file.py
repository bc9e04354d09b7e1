"""Saved models: whole or refused, whatever happened to the file."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

import convgmm
from convgmm import ConvGMM, DeepGMM, FullGMM, model_file
from registry import ENTRIES, assert_same

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a small model and its file."""
    X = np.random.default_rng(0).standard_normal((50, 4))
    model = ConvGMM(2, random_state=0, max_iter=2).fit(X)
    path = tmp_path_factory.mktemp("saved") / "model.npz"
    model.save(path)
    return model, path


def refused_or_unchanged(content, model, path):
    path.write_bytes(content)
    try:
        loaded = ConvGMM.load(path)
    except ValueError:
        return True
    assert_same(loaded, model)
    assert loaded.get_params() == model.get_params()
    return False


def flipped(content, bit):
    spoiled = bytearray(content)
    spoiled[bit // 8] ^= 1 << bit % 8
    return bytes(spoiled)


def test_flipped_bits_are_refused(saved, tmp_path):
    model, path = saved
    content = path.read_bytes()
    refused = [
        refused_or_unchanged(flipped(content, bit), model, tmp_path / "x") for bit in range(0, 8 * len(content), 61)
    ]
    assert np.mean(refused) > 0.5


@pytest.mark.slow
def test_every_flipped_bit_is_refused(saved, tmp_path):
    model, path = saved
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        refused_or_unchanged(flipped(content, bit), model, tmp_path / "x")


def test_every_cut_is_refused(saved, tmp_path):
    model, path = saved
    content = path.read_bytes()
    for length in range(len(content)):
        assert refused_or_unchanged(content[:length], model, tmp_path / "x"), length


def rewritten(path, target, **changes):
    """Write the file anew with another header, its sum right."""
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    header = json.loads(arrays.pop("header").tobytes()) | changes
    arrays.pop("sha256")
    encoded = json.dumps(header).encode()
    digest = model_file._digest(encoded, arrays)
    with target.open("wb") as file:
        np.savez(
            file, header=np.frombuffer(encoded, dtype=np.uint8), sha256=np.frombuffer(digest, dtype=np.uint8), **arrays
        )


def test_refusals_say_why(saved, tmp_path):
    _, path = saved
    with pytest.raises(ValueError, match="holds a ConvGMM, not a FullGMM"):
        FullGMM.load(path)
    with pytest.raises(ValueError, match="holds a ConvGMM, not a DeepGMM"):
        DeepGMM.load(path)
    rewritten(path, tmp_path / "later", format=model_file.FORMAT + 1, convgmm="99.0")
    with pytest.raises(ValueError, match=r"convgmm 99\.0 .*install a later one"):
        ConvGMM.load(tmp_path / "later")
    (tmp_path / "text").write_text("not a model")
    with pytest.raises(ValueError, match="damaged, cut short, or not a saved model"):
        ConvGMM.load(tmp_path / "text")
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(ValueError, match="not a saved model"):
        ConvGMM.load(tmp_path / "other.npz")
    np.savez(tmp_path / "pickled.npz", header=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="not a saved model"):
        ConvGMM.load(tmp_path / "pickled.npz")
    with pytest.raises(FileNotFoundError):
        ConvGMM.load(tmp_path / "absent")
    with pytest.raises(OSError, match=r"absent.*|cannot be written"):
        ConvGMM.load(path).save(tmp_path / "absent" / "model")
    assert isinstance(convgmm.load(path), ConvGMM)


def test_parameters_come_back_as_they_were(tmp_path):
    X = np.random.default_rng(0).standard_normal((60, 3))
    given = {
        "weights_init": [0.25, 0.75],
        "means_init": np.array([[0.0, 1.0, 2.0], [1.0, 1.0, 1.0]]),
        "random_state": np.random.RandomState(3),
        "tol": np.float32(0.5),
    }
    FullGMM(2, **given).fit(X).save(tmp_path / "model")
    loaded = FullGMM.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.means_init, given["means_init"])
    assert loaded.weights_init == given["weights_init"]
    assert loaded.tol == 0.5
    assert loaded.sample(4)[0].shape == (4, 3)
    model = ConvGMM(2, patch_shape=(2, 3), random_state=0).fit(X.reshape(30, 6))
    model.save(tmp_path / "model")
    assert ConvGMM.load(tmp_path / "model").patch_shape == (2, 3)
    with pytest.raises(TypeError, match="verbose"):
        model.set_params(verbose=object()).save(tmp_path / "model")
    assert ConvGMM.load(tmp_path / "model").patch_shape == (2, 3)  # what was there is still there


SAVE_FOREVER = """
import sys
import numpy as np
from convgmm import ConvGMM
models = [ConvGMM(2, random_state=seed, max_iter=2).fit(np.random.default_rng(seed).standard_normal((90, 40)))
          for seed in range(2)]
models[0].save(sys.argv[1])
print("saving", flush=True)
while True:
    for model in models:
        model.save(sys.argv[1])
"""


def killed_while_saving(command, path, times):
    for _ in range(times):
        running = command("-W", "ignore", "-c", SAVE_FOREVER, str(path))
        assert running.process.stdout.readline() == "saving\n"
        running.stop(signal.SIGKILL)
        assert ConvGMM.load(path).n_components_ == 2
        for left in path.parent.glob(".*"):
            left.unlink()


def test_a_kill_while_saving_leaves_a_whole_file(command, tmp_path):
    killed_while_saving(command, tmp_path / "model", 3)


KILL_MANY = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from convgmm import ConvGMM
path, rng = Path(sys.argv[1]), np.random.default_rng(0)
models = [ConvGMM(2, random_state=seed, max_iter=2).fit(rng.standard_normal((90, 40))) for seed in range(2)]
models[0].save(path)
lost = 0
for _ in range(1000):
    child = os.fork()
    while child == 0:
        for model in models:
            model.save(path)
    time.sleep(rng.uniform(0, 0.02))  # any moment is a test of its own
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        ConvGMM.load(path)
    except ValueError:
        lost += 1
    for left in path.parent.glob(".*"):
        left.unlink()
print(lost)
"""


@pytest.mark.slow
def test_many_kills_while_saving_leave_a_whole_file(tmp_path):
    """A thousand kills, of processes that a small one forks off once everything is imported."""
    command = [sys.executable, "-W", "ignore", "-c", KILL_MANY, str(tmp_path / "model")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "0\n"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_full_disk_leaves_the_old_file(entry, tmp_path, monkeypatch):
    X = entry.samples()
    path = tmp_path / "model"
    old = entry.make(max_iter=2).fit(X)
    old.save(path)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        entry.make(max_iter=3).fit(X).save(path)
    assert_same(type(old).load(path), old)
    assert [p.name for p in Path(tmp_path).iterdir()] == ["model"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_fewer_bits_make_smaller_files_that_answer_alike(dtype, tmp_path):
    X = np.random.default_rng(3).standard_normal((600, 40)).cumsum(axis=1)
    model = FullGMM(3, random_state=0, tol=0.1).fit(X)
    model.save(tmp_path / "double.npz")
    model.save(tmp_path / "small.npz", dtype=dtype)
    sizes = [(tmp_path / f"{name}.npz").stat().st_size for name in ("double", "small")]
    assert sizes[1] < 0.6 * sizes[0]
    loaded = convgmm.load(tmp_path / "small.npz")
    assert loaded.covariances_.dtype == np.float64
    eps = 4 * np.finfo(dtype).eps * np.abs(model.covariances_).max()
    np.testing.assert_allclose(loaded.covariances_, model.covariances_, atol=eps)
    np.testing.assert_allclose(loaded.score(X), model.score(X), rtol=1e-3)
    with pytest.raises(ValueError, match="dtype must be"):
        model.save(tmp_path / "small.npz", dtype=np.int8)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("unit", [1e-25, 1e-8, 1e5, 1e25])
def test_what_fewer_bits_would_destroy_keeps_more(dtype, unit, tmp_path):
    X = unit * np.random.default_rng(3).standard_normal((300, 6)).cumsum(axis=1)
    model = FullGMM(2, reg_covar=0, random_state=0, tol=0.1).fit(X)
    model.save(tmp_path / "small.npz", dtype=dtype)
    loaded = convgmm.load(tmp_path / "small.npz")
    np.testing.assert_allclose(loaded.score(X), model.score(X), rtol=1e-3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_rounding_makes_indefinite_is_not_rounded(dtype, tmp_path):
    covariance = np.array([[1.0, 1 - 1e-9], [1 - 1e-9, 1.0]])
    model = FullGMM.from_parameters([1.0], np.zeros((1, 2)), covariance[None])
    model.save(tmp_path / "small.npz", dtype=dtype)
    loaded = convgmm.load(tmp_path / "small.npz").covariances_
    expected = np.linalg.slogdet(covariance)[1]
    np.testing.assert_allclose(np.linalg.slogdet(loaded[0])[1], expected, atol=0.01)


def test_what_only_a_running_fit_asks_is_no_hindrance(tmp_path):
    class Patient:
        def converged(self, progress):
            return False

    options = {"callback": lambda iteration: None, "monitor": Patient(), "max_iter": 2, "random_state": 0}
    X = np.random.default_rng(0).standard_normal((200, 6))
    first, second = ConvGMM(2, output="likelihood", **options), FullGMM(2, **options)
    fitted = [clone(first).fit(X), DeepGMM([first, second]).fit(X)]
    for estimator in fitted:
        estimator.save(tmp_path / "model.npz")
        loaded = type(estimator).load(tmp_path / "model.npz")
        np.testing.assert_array_equal(loaded.predict_proba(X), estimator.predict_proba(X))
        for one in [loaded] if estimator is fitted[0] else loaded.layers:
            assert one.callback is None
            assert one.monitor is None
            assert one.max_iter == 2

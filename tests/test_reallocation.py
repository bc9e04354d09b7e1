"""Components that are moved: out of bad optima, for every family, and what the record says."""

import numpy as np
import pytest
from sklearn.base import clone

import oracle
from convgmm import ConvGMM, FullGMM, TorusGMM
from convgmm.families import CollapseError, DensityError, Full, Scaled
from convgmm.families.family import joined
from convgmm.families.full import Gaussians
from convgmm.families.scaled import ScaledParameters
from convgmm.problem import Held
from registry import MIXTURES, assert_same

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def badly_started(family, rng, **options):
    """Return samples of three groups, and a mixture that starts with two components on one and one on two."""
    options = {"random_state": 0, "prune_threshold": 0, "tol": 1e-4} | options
    if family is FullGMM:
        means = np.array([[0.0, 0], [20, 0], [28, 0]])
        X = np.concatenate([rng.standard_normal((300, 2)) + mean for mean in means])
        start = np.array([[-0.5, 0], [0.5, 0], [24, 0]])
        return X, FullGMM(3, means_init=start, covariances_init=np.tile(np.eye(2), (3, 1, 1)), **options)
    shape = (4, 4)
    spectra = oracle.symmetric_spectra(rng, 3, shape) * 4.0 ** np.arange(-1, 2)[:, None, None]
    spectra[2] *= 1 + 30 * (np.indices(shape)[0] == 0)
    spectra[1] *= 1 + 30 * (np.indices(shape)[1] == 0)
    drawn = [
        ConvGMM.from_parameters([1.0], each[None], remove_mean=False, random_state=k).sample(300)[0]
        for k, each in enumerate(spectra)
    ]
    start = np.stack([spectra[0] * 1.05, spectra[0] / 1.05, (spectra[1] + spectra[2]) / 2])
    more = {"torus_shape": shape} if family is TorusGMM else {}
    return np.concatenate(drawn), family(3, spectra_init=start, remove_mean=False, **more, **options)


@pytest.mark.parametrize("family", [ConvGMM, FullGMM, TorusGMM])
def test_a_component_is_moved_where_it_is_missing(family, rng):
    X, mixture = badly_started(family, rng)
    plain = mixture.fit(X).lower_bound_
    assert mixture.reallocations_ == []
    moved = mixture.set_params(reallocate=3).fit(X)
    labels = moved.predict(X).reshape(3, 300)
    assert [np.bincount(each, minlength=3).max() > 200 for each in labels] == [True] * 3
    assert len({int(np.bincount(each).argmax()) for each in labels}) == 3
    assert moved.lower_bound_ > plain + 0.3
    assert moved.n_components_ == 3
    first = moved.reallocations_[0]
    assert first.kept
    assert set(first.merged) == {0, 1}
    assert first.split == 2
    assert first.gain > 0.3
    assert np.diff(moved.lower_bounds_).min() >= -1e-9
    assert len(moved.lower_bounds_) == moved.n_iter_ > first.iteration


@pytest.mark.parametrize("mixture", MIXTURES, ids=lambda entry: entry.name)
def test_trials_keep_the_contract_of_every_mixture(mixture, tmp_path):
    X = mixture.samples()
    options = {"n_components": 4, "max_iter": 20, "tol": 1e-3}
    plain = mixture.make(**options).fit(X)
    fitted = mixture.make(**options, reallocate=4, n_threads=1).fit(X)
    assert_same(mixture.make(**options, reallocate=4, n_threads=2).fit(X), fitted)
    assert 1 <= len(fitted.reallocations_) <= 4
    assert np.isfinite([trial.gain for trial in fitted.reallocations_ if trial.kept]).all()
    assert all(trial.gain > 0 for trial in fitted.reallocations_ if trial.kept)
    kept = any(trial.kept for trial in fitted.reallocations_)
    assert fitted.lower_bound_ > plain.lower_bound_ if kept else fitted.lower_bound_ == plain.lower_bound_
    if "Full" not in mixture.name:  # whose additive regularisation lets the likelihood fall a little
        assert np.diff(fitted.lower_bounds_).min() >= -1e-9
    fitted.save(tmp_path / "model")
    assert type(fitted).load(tmp_path / "model").reallocations_ == fitted.reallocations_
    weight = np.random.default_rng(0).integers(0, 3, len(X))
    assert np.isfinite(mixture.make(**options, reallocate=2).fit(X.astype(np.float32), sample_weight=weight).score(X))


def test_streams_are_reallocated_too(rng):
    X, mixture = badly_started(FullGMM, rng, reallocate=3)
    X = X[rng.permutation(len(X))]

    class Stream:
        def __iter__(self):
            return iter(np.array_split(X, 3))

    streamed = mixture.fit(Stream())
    assert streamed.reallocations_[0].kept
    assert streamed.lower_bound_ == pytest.approx(mixture.fit(X).lower_bound_, rel=1e-3)


def test_trials_that_fail_change_nothing(rng):
    # Three components on three groups: nothing can be gained.
    X = np.concatenate([rng.standard_normal((300, 2)) + 20 * k for k in range(3)])
    plain = FullGMM(3, random_state=0).fit(X)
    tried = FullGMM(3, random_state=0, reallocate=5).fit(X)
    assert len(tried.reallocations_) > 0
    assert not any(trial.kept or trial.gain > 0 for trial in tried.reallocations_)
    assert_same(tried, plain)


def test_what_was_pruned_comes_back_where_it_is_missing(rng):
    X = np.concatenate([rng.standard_normal((300, 2)) + np.array([8 * k, 0]) for k in range(3)])
    start = np.array([[0.0, 0], [12, 0], [500, 0]])  # nothing is near the last one
    options = {"means_init": start, "covariances_init": np.tile(np.eye(2), (3, 1, 1)), "random_state": 0}
    plain = FullGMM(3, **options).fit(X)
    assert plain.n_components_ == 2
    back = FullGMM(3, **options, reallocate=2).fit(X)
    assert back.n_components_ == 3
    assert back.reallocations_[0].merged is None
    assert back.reallocations_[0].kept
    assert back.lower_bound_ > plain.lower_bound_ + 0.3


@pytest.mark.parametrize("K", [1, 2])
def test_too_few_components_to_move_are_left_alone(K, rng):
    fitted = FullGMM(K, random_state=0, reallocate=3).fit(rng.standard_normal((100, 2)))
    assert fitted.reallocations_ == []


@pytest.mark.parametrize("value", [-1, 1.5, "yes"])
def test_bad_numbers_of_trials_are_refused(value, rng):
    with pytest.raises(ValueError, match="reallocate"):
        FullGMM(2, reallocate=value).fit(rng.standard_normal((50, 2)))
    with pytest.raises(ValueError, match="reallocate=2 needs"):
        FullGMM(2, reallocate=2, algorithm="hard").fit(rng.standard_normal((50, 2)))


def test_a_merged_component_has_the_moments_of_both(rng):
    # Against the moments of samples of both, weighted.
    weights, means = np.array([0.1, 0.6, 0.3]), rng.standard_normal((3, 3))
    covariances = np.stack([np.cov(rng.standard_normal((3, 20))) for _ in range(3)])
    found = Full("free", 0.0).merge(Gaussians(weights, means, covariances), 2, 0)
    share = np.array([0.25, 0.75])
    second = np.einsum("k,kij->ij", share, covariances[[0, 2]] + means[[0, 2], :, None] * means[[0, 2], None, :])
    mean = share @ means[[0, 2]]
    np.testing.assert_allclose(found.weights, [0.4])
    np.testing.assert_allclose(found.means[0], mean)
    np.testing.assert_allclose(found.covariances[0], second - np.outer(mean, mean))
    again = joined([Gaussians(weights, means, covariances), found], np.full(4, 0.25))
    np.testing.assert_array_equal(again.covariances[3], found.covariances[0])
    np.testing.assert_array_equal(again.weights, np.full(4, 0.25))


@pytest.mark.parametrize("remove_mean", [True, False])
def test_effective_ranks_are_those_of_the_covariances(remove_mean, rng):
    spectra = oracle.symmetric_spectra(rng, 2, (4, 5)) ** 4
    torus = TorusGMM.from_parameters([0.5, 0.5], spectra, (3, 4), remove_mean=remove_mean)
    conv = ConvGMM.from_parameters([0.5, 0.5], spectra, remove_mean=remove_mean)
    share = np.stack([np.maximum(np.linalg.eigvalsh(C), 1e-300) for C in torus.covariances_])
    share /= share.sum(axis=1, keepdims=True)
    expected = np.exp(-(share * np.log(share)).sum(axis=1))
    np.testing.assert_allclose(torus.model_.effective_ranks(), expected)
    share = conv.spectra_.reshape(2, -1)[:, int(remove_mean) :]
    share = share / share.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(conv.model_.effective_ranks(), np.exp(-(share * np.log(share)).sum(axis=1)))
    white = FullGMM.from_parameters([1.0], np.zeros((1, 7)), 3 * np.eye(7)[None])
    np.testing.assert_allclose(white.model_.effective_ranks(), 7)


def test_errors_of_a_stream_during_a_trial_are_the_users(rng):
    X, mixture = badly_started(FullGMM, rng)
    X = X[rng.permutation(len(X))]
    n_passes = 1 + mixture.fit(X).n_iter_

    class Failing:
        passes = 0

        def __iter__(self):
            self.passes += 1
            if self.passes > n_passes + 3:
                raise ValueError("the disk is full of holes")
            return iter(np.array_split(X, 3))

    with pytest.raises(ValueError, match="full of holes"):
        mixture.set_params(reallocate=3).fit(Failing())


@pytest.mark.parametrize("error", [DensityError, CollapseError])
def test_a_trial_that_cannot_go_on_is_not_kept(error, monkeypatch, rng):
    X, mixture = badly_started(FullGMM, rng)
    plain = clone(mixture).fit(X)
    calls = []

    def expect(self, *given, call=Held.expect):
        calls.append(given)
        if len(calls) > plain.n_iter_:
            raise error("no density")
        return call(self, *given)

    monkeypatch.setattr(Held, "expect", expect)
    tried = mixture.set_params(reallocate=2).fit(X)
    assert [(trial.kept, trial.gain) for trial in tried.reallocations_] == [(False, -np.inf)] * 2
    assert_same(tried, plain)


@pytest.mark.parametrize("n_unused", [1, 2, 3])
@pytest.mark.parametrize("unused_last", [True, False])
def test_components_of_weight_0_are_put_where_they_are_missing(n_unused, unused_last, rng):
    means = np.array([[0.0, 0], [20, 0], [28, 0]])
    X = np.concatenate([rng.standard_normal((300, 2)) + mean for mean in means])
    start = np.array([[0.0, 0], [24, 0], *[[1e4 * (k + 1), 0] for k in range(n_unused)]])
    start = start if unused_last else start[::-1]
    options = {"means_init": start, "covariances_init": np.tile(np.eye(2), (len(start), 1, 1)), "random_state": 0}
    mixture = FullGMM(len(start), prune_threshold=0, **options)
    assert (mixture.fit(X).weights_ == 0).sum() == n_unused
    plain = mixture.lower_bound_
    mixture.set_params(reallocate=1).fit(X)
    assert mixture.reallocations_[0].kept
    assert mixture.lower_bound_ > plain + 0.3
    assert (mixture.weights_ == 0).sum() == n_unused - 1
    assert mixture.n_components_ == len(start)


def test_one_component_and_only_unused_ones_beside_it(rng):
    X = np.concatenate([rng.standard_normal((300, 2)) + np.array([9 * k, 0]) for k in range(2)])
    start = np.array([[4.5, 0], [1e4, 0], [2e4, 0], [3e4, 0]])
    options = {"means_init": start, "covariances_init": np.tile(np.eye(2), (4, 1, 1)), "random_state": 0}
    mixture = FullGMM(4, prune_threshold=0, reallocate=1, **options).fit(X)
    assert mixture.reallocations_[0].kept
    assert (mixture.weights_ == 0).tolist().count(True) == 2


def test_two_components_of_weight_0_merge_to_their_mean(rng):
    means, covariances = rng.standard_normal((3, 2)), np.tile(np.eye(2), (3, 1, 1))
    found = Full("free", 0.0).merge(Gaussians(np.array([0.0, 1.0, 0.0]), means, covariances), 0, 2)
    np.testing.assert_array_equal(found.weights, [0.0])
    np.testing.assert_allclose(found.means[0], means[[0, 2]].mean(axis=0))
    assert np.isfinite(found.covariances).all()
    scaled = ScaledParameters(Gaussians(np.zeros(2), means[:2], covariances[:2]), np.ones(2), np.eye(2))
    np.testing.assert_allclose(Scaled(Full("zero", 0.0), 2).merge(scaled, 0, 1).scale_weights, [[0.5, 0.5]])


def test_trials_and_what_follows_take_no_more_iterations_than_are_said(monkeypatch, rng):
    X, mixture = badly_started(FullGMM, rng, reallocate=3, max_iter=4, tol=0)
    runs = []

    def expect(self, prepared, assign, call=Held.expect):
        runs.append(assign.iteration)
        return call(self, prepared, assign)

    monkeypatch.setattr(Held, "expect", expect)
    fitted = mixture.fit(X)
    assert max(runs) == 3
    n_kept = sum(trial.kept for trial in fitted.reallocations_)
    assert n_kept
    assert 4 < fitted.n_iter_ <= 4 * (2 + n_kept)

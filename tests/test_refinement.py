"""Refinement from the top: the target against plain NumPy, an objective that never falls, and what is refused."""

import pickle

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

import convgmm
from convgmm import ConvGMM, DeepGMM, FullGMM
from convgmm.refinement import Refinement

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def textures():
    rng = np.random.default_rng(2)
    X = rng.standard_normal((600, 8, 8))
    X[200:400] = X[200:400].cumsum(axis=1)
    X[400:] = X[400:].cumsum(axis=2)
    return X, np.repeat([4, 7, 9], 200)


def layers(**options):
    first = ConvGMM(6, output="likelihood", temperature=4, max_iter=4, random_state=0, **options)
    second = FullGMM(4, output="posterior", max_iter=4, reg_covar=1e-3, random_state=1)
    return DeepGMM([first, second, FullGMM(3, max_iter=4, reg_covar=1e-3, random_state=2)])


def test_the_target_is_that_of_the_formula(textures):
    X, _ = textures
    deep = layers().fit(X)
    first, belief = deep.layers_[0], deep.layers_[1].predict_proba(deep.transform(X, layer=0))
    likelihood = np.exp(first.log_density(X) / 4 - first.log_density(X).max(axis=1, keepdims=True) / 4)
    posterior = likelihood * first.weights_
    posterior /= posterior.sum(axis=1, keepdims=True)
    expected = np.zeros_like(likelihood)
    for k in range(6):
        for j in range(4):
            expected[:, k] += likelihood[:, k] * belief[:, j] * (belief[:, j] @ posterior[:, k]) / belief[:, j].sum()
    found = Refinement._target(first, X, belief)
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("labels", ["none", "few", "all"])
def test_the_objective_never_falls(textures, labels):
    X, y = textures
    given = {"none": None, "few": np.where(np.arange(600) % 10, -1, y), "all": y}[labels]
    deep = layers().fit(X)
    before = deep.log_density(X, layer=0)
    deep.refine(X, given, n_rounds=3)
    assert 1 < len(deep.refinement_) <= 4
    assert (np.diff(deep.refinement_) >= 0).all()
    assert deep.refinement_[-1] > deep.refinement_[0]
    assert not np.array_equal(deep.log_density(X, layer=0), before)
    # It is what it is called.
    label = None if given is None else np.where(given < 0, -1, np.searchsorted([4, 7, 9], given))
    assert Refinement(X, label).assess(deep.layers_).objective == pytest.approx(deep.refinement_[-1])
    gamma = deep.predict_proba(X)
    if given is None:
        mean = gamma.mean(axis=0)
        information = -(mean @ np.log(mean)) + (gamma * np.log(np.maximum(gamma, 1e-300))).sum(axis=1).mean()
        assert deep.refinement_[-1] == pytest.approx(deep.score(X, layer=0) / 64 + information)


def test_labels_make_the_top_follow_classes(textures):
    X, y = textures
    deep = layers().fit(X)

    def purity(deep):
        return sum(np.unique(y[deep.predict(X) == k], return_counts=True)[1].max(initial=0) for k in range(3)) / len(X)

    before = purity(deep)
    deep.refine(X, y, n_rounds=3)
    assert purity(deep) >= before


def test_refined_layers_are_kept_with_their_parameters(textures, tmp_path):
    X, _ = textures
    deep = layers().fit(X).refine(X, n_rounds=2)
    assert [layer.get_params() for layer in deep.layers_] == [layer.get_params() for layer in deep.layers]
    deep.save(tmp_path / "deep")
    for kept in (convgmm.load(tmp_path / "deep"), pickle.loads(pickle.dumps(deep))):
        np.testing.assert_array_equal(kept.predict_proba(X), deep.predict_proba(X))
        np.testing.assert_array_equal(kept.refinement_, deep.refinement_)
    one = layers(n_threads=1).fit(X).refine(X, n_rounds=2)
    np.testing.assert_array_equal(one.refinement_, deep.refinement_)
    assert not hasattr(deep.fit(X), "refinement_")


def test_what_cannot_be_refined_is_refused(textures):
    X, y = textures
    with pytest.raises(NotFittedError):
        layers().refine(X)
    with pytest.raises(ValueError, match="at least two layers"):
        DeepGMM([FullGMM(2, reg_covar=1)]).fit(X).refine(X)
    with pytest.raises(ValueError, match=r"layer 0 passes on 'log_density'.*no distribution"):
        DeepGMM([ConvGMM(3, output="log_density"), FullGMM(2)]).fit(X).refine(X)
    deep = layers().fit(X)
    for given, message in (
        ({"n_rounds": 0}, "n_rounds must be at least 1"),
        ({"y": y[1:]}, "599 classes of 600 samples"),
        ({"y": np.full(600, -1)}, "0 of them known"),
    ):
        with pytest.raises(ValueError, match=message):
            deep.refine(X, **given)
    before = deep.predict_proba(X)
    with pytest.raises(ValueError, match=r"shape|features"):
        deep.refine(X[:, :4])
    np.testing.assert_array_equal(deep.predict_proba(X), before)


def test_integers_and_frames_are_read_as_by_fit(textures):
    pd = pytest.importorskip("pandas")
    X, _ = textures
    X = np.clip(X * 20 + 128, 0, 255).astype(np.uint8)
    expected = layers().fit(X.astype(float)).refine(X.astype(float), n_rounds=1).refinement_
    np.testing.assert_array_equal(layers().fit(X).refine(X, n_rounds=1).refinement_, expected)
    frame = pd.DataFrame(X.reshape(len(X), -1), columns=[f"v{i}" for i in range(64)])
    mixtures = [FullGMM(2, reg_covar=1, output="posterior", max_iter=2, random_state=0), FullGMM(2, random_state=0)]
    assert DeepGMM(mixtures).fit(frame).refine(frame, n_rounds=1).feature_names_in_[1] == "v1"


def test_a_fit_after_refinement_begins_anew(textures):
    X, _ = textures
    deep = layers().set_params(warm_start=True).fit(X)
    before = deep.log_density(X, layer=0)
    refined = deep.refine(X, n_rounds=1).log_density(X, layer=0)
    assert not np.array_equal(refined, before)
    np.testing.assert_array_equal(deep.fit(X).log_density(X, layer=0), before)


def test_layers_follow_by_plain_em_and_keep_what_their_fit_told(textures, monkeypatch):
    X, _ = textures
    deep = layers().set_params(layers__2__algorithm="stochastic", layers__1__reallocate=1).fit(X)
    calls = []
    deep.layers_[2].set_params(callback=lambda *given: calls.append(given))
    told = [(layer.n_iter_, layer.converged_, layer.lower_bound_) for layer in deep.layers_]
    seen, fit = set(), FullGMM.fit
    monkeypatch.setattr(FullGMM, "fit", lambda m, *a, **k: (seen.add((m.algorithm, m.reallocate)), fit(m, *a, **k))[1])
    deep.refine(X, n_rounds=1)
    assert seen == {("em", 0)}
    assert not calls
    assert deep.layers_[2].callback is not None
    assert [(layer.n_iter_, layer.converged_, layer.lower_bound_) for layer in deep.layers_] == told
    assert (deep.layers_[2].algorithm, deep.layers_[1].reallocate) == ("stochastic", 1)

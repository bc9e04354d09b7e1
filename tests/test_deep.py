"""Layers: the same as a pipeline, and access to every one of them."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from convgmm import ConvGMM, DeepGMM, FullGMM

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((900, 8, 8))
    x[300:600] = x[300:600].cumsum(axis=1)
    x[600:] = 2 * x[600:].cumsum(axis=2)
    return x.astype(np.float32)


def three_layers(**options):
    return [
        ConvGMM(6, output="likelihood", max_iter=15, random_state=0, **options),
        FullGMM(4, output="likelihood", max_iter=15, random_state=1, reg_covar=1e-4),
        FullGMM(3, max_iter=15, random_state=2, reg_covar=1e-4),
    ]


def parameters(mixture):
    names = ("weights_", "spectra_") if isinstance(mixture, ConvGMM) else ("weights_", "means_", "covariances_")
    return [getattr(mixture, name) for name in names]


def test_the_same_bits_as_a_pipeline(images):
    pipeline = make_pipeline(*three_layers()).fit(images)
    deep = DeepGMM(three_layers()).fit(images)
    for (_, step), layer in zip(pipeline.steps, deep.layers_, strict=True):
        for a, b in zip(parameters(step), parameters(layer), strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(pipeline.predict(images), deep.predict(images))
    np.testing.assert_array_equal(pipeline.transform(images), deep.transform(images))
    np.testing.assert_array_equal(pipeline.score_samples(images), deep.score_samples(images))


def test_every_layer_can_be_asked(images):
    deep = DeepGMM(three_layers()).fit(images)
    values = images
    for index, layer in enumerate(deep.layers_):
        np.testing.assert_array_equal(deep.predict(images, layer=index), layer.predict(values))
        np.testing.assert_array_equal(deep.transform(images, layer=index), layer.transform(values))
        np.testing.assert_array_equal(deep.score_samples(images, layer=index), layer.score_samples(values))
        np.testing.assert_array_equal(deep.log_density(images, layer=index), layer.log_density(values))
        np.testing.assert_array_equal(deep.top_samples(images, layer=index, n=4), layer.top_samples(values, 4))
        values = layer.transform(values)
    np.testing.assert_array_equal(deep.predict(images, layer=-1), deep.predict(images))
    assert deep.score(images, layer=0) == deep.layers_[0].score(images)
    for layer in (3, -4):
        with pytest.raises(ValueError, match="between 0 and 2"):
            deep.predict(images, layer=layer)


def test_the_given_mixtures_are_left_untouched(images):
    layers = three_layers()
    deep = DeepGMM(layers).fit(images)
    assert not any(hasattr(layer, "weights_") for layer in layers)
    assert deep.layers is layers
    with pytest.raises(NotFittedError):
        clone(deep).predict(images)


def test_pruned_components_are_gone_from_the_next_input(images):
    spectra = np.ones((3, 8, 8)) * np.array([1, 1e9, 30])[:, None, None]
    deep = DeepGMM([ConvGMM(3, spectra_init=spectra, output="likelihood"), FullGMM(2, random_state=0)]).fit(images)
    assert deep.layers_[0].n_components_ == 2
    assert deep.layers_[1].n_features_in_ == 2


def test_warm_start_fits_only_what_changed_or_was_added(images, monkeypatch):
    deep = DeepGMM(three_layers()[:2], warm_start=True).fit(images)
    first, second = deep.layers_
    deep.layers = [*deep.layers, three_layers()[2]]
    deep.fit(images)
    assert deep.layers_[0] is first
    assert deep.layers_[1] is second
    whole = DeepGMM(three_layers()).fit(images)
    for a, b in zip(parameters(whole.layers_[2]), parameters(deep.layers_[2]), strict=True):
        np.testing.assert_array_equal(a, b)
    deep.layers[1].set_params(random_state=7)
    deep.fit(images)
    assert deep.layers_[0] is first
    assert deep.layers_[1] is not second
    assert len(deep.layers_) == 3


def test_an_interrupt_keeps_finished_layers(images, monkeypatch):
    deep = DeepGMM(three_layers(), warm_start=True)

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FullGMM, "_train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            deep.fit(images)
    first = deep.layers_[0]
    with pytest.raises(NotFittedError, match="1 of 3 layers"):
        deep.predict(images)
    assert deep.predict(images, layer=0).shape == (900,)
    assert len(deep.fit(images).layers_) == 3
    assert deep.layers_[0] is first


def test_temperature_softens_and_drop_last_drops(images):
    model = ConvGMM(4, random_state=0, output="likelihood").fit(images)
    log_density = model.log_density(images).astype(np.float64)
    for output, weights in (("likelihood", np.ones(4)), ("posterior", model.weights_)):
        for temperature in (1.0, 5.0, 0.5):
            values = log_density / temperature + np.log(weights)
            expected = np.exp(values - np.logaddexp.reduce(values, axis=1)[:, None])
            model.set_params(output=output, temperature=temperature, drop_last=False)
            found = model.transform(images)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, atol=1e-3)
            dropped = model.set_params(drop_last=True).transform(images)
            np.testing.assert_array_equal(dropped, found[:, :3])
    assert list(model.get_feature_names_out()) == ["convgmm0", "convgmm1", "convgmm2"]
    sharp = model.set_params(temperature=1, drop_last=False).transform(images).max(axis=1).mean()
    assert model.set_params(temperature=20).transform(images).max(axis=1).mean() < sharp


def test_independent_rows_need_no_regularisation(images):
    layers = [*three_layers(temperature=10.0, drop_last=True)[:1], FullGMM(1, reg_covar=0)]
    assert DeepGMM(layers).fit(images).layers_[1].n_features_in_ == 5
    layers[0].set_params(drop_last=False)
    with pytest.raises(ValueError, match=r"layer 1, FullGMM: .*Raise reg_covar"):
        DeepGMM([layers[0], FullGMM(2, reg_covar=0, random_state=0)]).fit(np.repeat(images[:3], 4, axis=0))


@pytest.mark.parametrize("layers", [[], None, [1], ConvGMM(2), [ConvGMM(2), "full"]])
def test_layers_that_are_not_mixtures_are_refused(layers, images):
    with pytest.raises(TypeError, match="sequence of at least one mixture"):
        DeepGMM(layers).fit(images)


def test_drop_last_is_refused_for_log_densities(images):
    with pytest.raises(ValueError, match="drop_last"):
        ConvGMM(2, output="log_density", drop_last=True).fit(images)


def test_a_layer_can_be_swapped_and_tuned_at_once(images):
    deep = DeepGMM(three_layers()[:2])
    deep.set_params(layers__0__n_components=4, layers__1=ConvGMM(3), layers__1__max_iter=7)
    assert deep.layers[0].n_components == 4
    assert (type(deep.layers[1]), deep.layers[1].max_iter) == (ConvGMM, 7)
    with pytest.raises(ValueError, match="layers__5"):
        deep.set_params(layers__5__tol=1)


def test_a_random_state_seeds_layers_without_one(images):
    layers = [ConvGMM(3, output="likelihood", max_iter=3), FullGMM(2, max_iter=3, random_state=4)]
    one, other = (DeepGMM(layers, random_state=7).fit(images) for _ in range(2))
    assert [layer.random_state for layer in one.layers_] == [layer.random_state for layer in other.layers_]
    assert one.layers_[1].random_state == 4
    assert layers[0].random_state is None
    np.testing.assert_array_equal(one.layers_[0].spectra_, other.layers_[0].spectra_)


def test_fitted_layers_do_not_follow_the_given_list(images):
    layers = three_layers()[:2]
    deep = DeepGMM(layers).fit(images)
    layers.append(three_layers()[2])
    assert deep.predict(images).shape == (900,)
    assert deep.layer_input(images, 0)[1] is images


def test_warm_start_keeps_layers_only_for_the_same_samples_and_weights(images):
    deep = DeepGMM(three_layers()[:2], warm_start=True).fit(images)
    layers = list(deep.layers_)
    assert all(a is b for a, b in zip(deep.fit(images).layers_, layers, strict=True))
    assert deep.fit(images, sample_weight=np.arange(900) % 2).layers_[0] is not layers[0]
    layers = list(deep.fit(images).layers_)
    assert deep.fit(images[::-1]).layers_[0] is not layers[0]


def test_warm_start_keeps_no_layers_of_objects_whose_bytes_are_addresses(images):
    objects = images.reshape(900, -1)[:, :4].astype(object)
    deep = DeepGMM([FullGMM(2, max_iter=2, random_state=0)], warm_start=True).fit(objects)
    layer = deep.layers_[0]
    assert deep._fitted_to == ""
    assert deep.fit(objects).layers_[0] is not layer

"""Pictures: what they hold, read back from the figures."""

import numpy as np
import pytest

from convgmm import ConvGMM, plotting

matplotlib = pytest.importorskip("matplotlib")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def fitted(shape, n_components, **options):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, *shape))
    X[200:] = X[200:].cumsum(axis=-1)
    X *= np.exp(rng.normal(0, 0.7, 400)).reshape(-1, *[1] * len(shape))
    model = ConvGMM(n_components, random_state=0, max_iter=10, tol=0, prune_threshold=0, **options).fit(X)
    return model, X


def cells(axes, shape):
    """Return what is drawn in each cell, (rows, columns, *shape), without the free pixels around it."""
    (drawn,) = axes.images
    pixels = drawn.get_array().filled(np.nan)
    n_columns, n_rows = int(axes.get_xlim()[1]), int(axes.get_ylim()[0])
    tiles = pixels.reshape(n_rows, pixels.shape[0] // n_rows, n_columns, -1).transpose(0, 2, 1, 3)
    return tiles[:, :, : shape[0], : shape[1]]  # of images this small only the last pixel of a side is free


def labels(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_a_row_for_each_component_over_pages():
    model, X = fitted((6, 6), 9)
    pages = plotting.plot_components(model, X, n_patches=5, rows_per_page=4)
    assert [len(labels(page.axes[0])) for page in pages] == [4, 4, 1]
    names = [int(label.split(":")[0]) for page in pages for label in labels(page.axes[0])]
    assert names == list(range(9))
    samples = np.concatenate([cells(page.axes[0], (6, 6)) for page in pages])
    chosen = X[model.top_samples(X, 5)]
    low, high = chosen.min(axis=(2, 3), keepdims=True), chosen.max(axis=(2, 3), keepdims=True)
    claims = np.isin(np.arange(9), model.predict(X))
    np.testing.assert_allclose(samples[claims], ((chosen - low) / (high - low))[claims])
    assert np.isnan(samples[~claims]).all()
    filters = np.concatenate([cells(page.axes[1], (6, 6)) for page in pages])[:, 0]
    assert filters.shape == (9, 6, 6)
    assert not np.isnan(filters[:, 0, 0]).any()


def test_the_filter_is_logarithmic_with_zero_frequency_in_the_middle():
    model, X = fitted((6, 6), 2, remove_mean=False)
    image = cells(plotting.plot_components(model, X)[0].axes[1], (6, 6))[0, 0]
    np.testing.assert_allclose(image[3, 3], -np.log10(model.spectra_[0, 0, 0]))
    np.testing.assert_allclose(image[3, 4], -np.log10(model.spectra_[0, 0, 1]))
    (sheet,) = plotting.plot_spectra(model).axes[0].images  # one image, hence one scale for all
    assert sheet.get_clim() == (-np.log10(model.spectra_).max(), -np.log10(model.spectra_).min())


def test_a_component_with_no_sample_is_shown_as_empty():
    model, X = fitted((6, 6), 3)
    alone = X[model.predict(X) == 1]
    axes = plotting.plot_components(model, alone)[0].axes[0]
    assert [text.get_text() for text in axes.texts] == ["no sample", "no sample"]
    assert len(labels(axes)) == 3


@pytest.mark.parametrize("shape", [(12,), (3, 4, 5)])
def test_signals_are_curves_and_volumes_slices(shape):
    model, X = fitted(shape, 2)
    left, right = plotting.plot_components(model, X, n_patches=3)[0].axes[:2]
    if len(shape) == 1:
        assert [len(left.lines), len(right.lines)] == [6, 2]
    else:
        assert [cells(axes, shape[1:]).shape for axes in (left, right)] == [(2, 3, 4, 5), (2, 1, 4, 5)]
    plotting.plot_spectra(model)


def test_the_course_marks_prunings_and_the_weights_are_sorted():
    rng = np.random.default_rng(0)
    spectra = np.ones((3, 8))
    spectra[1] = 1e9
    model = ConvGMM(3, spectra_init=spectra * [[1], [1], [3]], tol=0, max_iter=20).fit(rng.standard_normal((200, 8)))
    assert len(model.pruned_) == 1
    axes = plotting.plot_likelihood(model).axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), model.lower_bounds_)
    assert [text.get_text() for text in axes.texts] == ["−1"]
    bars = [bar.get_height() for bar in plotting.plot_weights(model).axes[0].patches]
    np.testing.assert_array_equal(bars, sorted(model.weights_, reverse=True))


def test_no_figure_is_kept_or_shown():
    import matplotlib.pyplot as plt

    model, X = fitted((6, 6), 2)
    plotting.plot_components(model, X)
    assert plt.get_fignums() == []


def test_bad_options_are_refused():
    model, X = fitted((6, 6), 2)
    with pytest.raises(ValueError, match="at least 1"):
        plotting.plot_components(model, X, n_patches=0)
    with pytest.raises(ValueError, match="36 features"):
        plotting.plot_components(model, X[:, :5])

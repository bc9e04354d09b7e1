"""Textures: spectra within the error of sampling, tiles, colours, and contours."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from convgmm import ConvGMM, FullGMM, TorusGMM, texture


def bricks(shape=(64, 64), seed=0):
    """Return a texture of bricks, in two colours."""
    rows, columns = np.indices(shape)
    joint = (rows % 16 < 3) | ((columns + 8 * (rows // 16 % 2)) % 16 < 3)
    grey = np.where(joint, 0.2, 0.8) + 0.02 * np.random.default_rng(seed).standard_normal(shape)
    return np.stack([grey, 0.5 * grey, 1 - grey], axis=-1)


def spectrum(shape=(8, 8)):
    frequencies = np.meshgrid(*(np.fft.fftfreq(size) for size in shape), indexing="ij")
    return np.exp(-60 * sum(f**2 for f in frequencies)) + 0.02


@pytest.mark.parametrize("shape", [(12,), (8, 8), (7, 6), (4, 4, 4)])
def test_fields_have_the_spectrum_and_its_interpolation(shape):
    S = spectrum(shape)
    axes = tuple(range(len(shape)))
    rng = np.random.RandomState(0)
    same = [
        np.abs(np.fft.fftn(texture.stationary_field(S, shape, periodic=True, random_state=rng), norm="ortho")) ** 2
        for _ in range(400)
    ]
    # The mean of 400 periodograms: deviations of at most √(2/400) of the spectrum, 4.5 of them for any frequency.
    np.testing.assert_allclose(np.mean(same, axis=0), S, rtol=4.5 * np.sqrt(2 / 400))
    double = tuple(2 * size for size in shape)
    finer = [
        np.abs(np.fft.fftn(texture.stationary_field(S, double, periodic=True, random_state=rng), norm="ortho")) ** 2
        for _ in range(400)
    ]
    every_second = np.mean(finer, axis=0)[tuple(slice(None, None, 2) for _ in axes)]
    np.testing.assert_allclose(every_second, S, rtol=4.5 * np.sqrt(2 / 400))


def test_larger_fields_have_the_variance_and_do_not_wrap():
    S = spectrum()
    field = texture.stationary_field(S, (256, 300), random_state=0)
    assert field.shape == (256, 300)
    assert field.var() == pytest.approx(S.mean(), rel=0.05)
    lag = np.corrcoef(field[:, 0], field[:, -1])[0, 1], np.corrcoef(field[:, 0], field[:, 1])[0, 1]
    assert abs(lag[0]) < 0.3 < lag[1]
    tile = texture.stationary_field(S, (256, 300), periodic=True, random_state=0)
    assert np.corrcoef(tile[:, 0], tile[:, -1])[0, 1] > 0.3
    np.testing.assert_array_equal(field, texture.stationary_field(S, (256, 300), random_state=0))
    assert texture.stationary_field(S, (5, 3), periodic=True, random_state=0).shape == (5, 3)


def test_models_are_synthesized_from_their_spectra():
    spectra = np.stack([spectrum(), 4 * spectrum()])
    for model in (
        ConvGMM.from_parameters([0.5, 0.5], spectra, remove_mean=False),
        TorusGMM.from_parameters([0.5, 0.5], spectra, (5, 5), remove_mean=False),
    ):
        small, large = (model.synthesize((200, 200), component, random_state=0) for component in (0, 1))
        np.testing.assert_allclose(large, 2 * small)
        np.testing.assert_array_equal(small, texture.stationary_field(spectra[0], (200, 200), random_state=0))
        variances = {round(model.synthesize((64, 64), random_state=seed).var(), 1) for seed in range(8)}
        assert len(variances) > 1  # components are drawn
        with pytest.raises(ValueError, match="component must be"):
            model.synthesize((8, 8), 2)
        with pytest.raises(ValueError, match="size must be"):
            model.synthesize((8,), 0)
    full = FullGMM.from_parameters([1], np.zeros((1, 4)), np.eye(4)[None])
    with pytest.raises(ValueError, match="not stationary"):
        full.synthesize((8, 8))


def test_the_periodic_component_is_that_of_its_definition():
    u = np.add.outer(np.linspace(0, 1, 20), np.linspace(0, 2, 30)) + bricks((20, 30))[..., 0]
    p = texture.periodic_component(u)
    smooth = u - p
    assert abs(smooth.mean()) < 1e-12
    interior = sum(np.roll(smooth, step, axis) for step in (1, -1) for axis in (0, 1)) - 4 * smooth
    np.testing.assert_allclose(interior[1:-1, 1:-1], 0, atol=1e-12)
    jumps = np.abs(p[:, 0] - p[:, -1]).mean(), np.abs(u[:, 0] - u[:, -1]).mean()
    assert jumps[0] < 0.3 * jumps[1]


def test_spot_noise_has_the_exemplars_spectrum_and_colours():
    exemplar = bricks()
    learnt = texture.from_image(exemplar)
    drawn = np.stack([learnt.synthesize((64, 64), periodic=True, random_state=seed) for seed in range(200)])
    periodic = texture.periodic_component(exemplar)
    mean = periodic.mean(axis=(0, 1))
    np.testing.assert_allclose(drawn.mean(axis=(0, 1, 2)), mean, atol=1e-12)
    power = (np.abs(np.fft.fft2(drawn - mean, axes=(1, 2))) ** 2).mean(axis=0)
    expected = np.abs(np.fft.fft2(periodic - mean, axes=(0, 1))) ** 2
    strong = expected > 1e-3 * expected.max()
    np.testing.assert_allclose(power[strong], expected[strong], rtol=5 * np.sqrt(2 / 200))
    np.testing.assert_allclose(drawn[..., 1] - mean[1], 0.5 * (drawn[..., 0] - mean[0]), atol=0.1)
    large = learnt.synthesize((150, 100), random_state=0)
    assert large.shape == (150, 100, 3)
    np.testing.assert_allclose(large.std(axis=(0, 1)), periodic.std(axis=(0, 1)), rtol=0.25)
    assert texture.from_image(exemplar[..., 0]).synthesize((20, 20), random_state=0).shape == (20, 20, 1)


def test_patches_bring_contours():
    exemplar = bricks()
    learnt = texture.from_image(exemplar, contours=True, n_components=8, n_scales=3)
    drawn = learnt.synthesize((80, 72), periodic=True, random_state=0)
    assert drawn.shape == (80, 72, 3)
    np.testing.assert_array_equal(drawn, learnt.synthesize((80, 72), periodic=True, random_state=0))
    assert learnt.synthesize((50, 33), random_state=0).shape == (50, 33, 3)
    noise = texture.from_image(exemplar).synthesize((80, 72), periodic=True, random_state=0)

    def kurtosis(image):
        """Return that of the grey values: 3 for a Gaussian, near 1 for two values."""
        grey = image[..., 0] - image[..., 0].mean()
        return np.mean(grey**4) / np.mean(grey**2) ** 2

    assert abs(kurtosis(drawn) - kurtosis(exemplar)) < 0.5 * abs(kurtosis(noise) - kurtosis(exemplar))
    with pytest.raises(ValueError, match="multiples of 2"):
        learnt.synthesize((50, 33), periodic=True)


def test_a_fit_replaces_the_one_before_or_changes_nothing(monkeypatch):
    learnt = texture.PatchTexture(bricks((40, 40)), n_components=4, n_scales=2)
    with pytest.raises(NotFittedError, match="call fit first"):
        learnt.synthesize((20, 20))
    whole, fits = FullGMM.fit, iter([True, False])

    def interrupted(self, X):
        if next(fits):
            return whole(self, X)
        raise KeyboardInterrupt

    monkeypatch.setattr(FullGMM, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        learnt.fit()
    monkeypatch.undo()
    with pytest.raises(NotFittedError):
        learnt.synthesize((20, 20))
    first = learnt.fit().synthesize((20, 20), random_state=0)
    np.testing.assert_array_equal(learnt.fit().synthesize((20, 20), random_state=0), first)


def test_bad_textures_are_refused():
    for exemplar in (np.ones((8, 40)), np.ones(40), np.ones((20, 20), dtype=bool)):
        with pytest.raises(ValueError, match="exemplar has shape"):
            texture.from_image(exemplar)
    with pytest.raises(ValueError, match="NaN"):
        texture.from_image(np.full((20, 20), np.nan))
    with pytest.raises(ValueError, match="not negative"):
        texture.stationary_field(-np.ones((4, 4)), (8, 8))
    with pytest.raises(ValueError, match="size must be"):
        texture.from_image(bricks()).synthesize((0, 8))

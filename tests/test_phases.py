"""Filters of zero and of minimum phase."""

import numpy as np
import pytest

from convgmm import ConvGMM, TorusGMM
from convgmm.datasets import extract_patches, load_sample_images
from convgmm.phases import impulse_responses

SHAPES = [(64,), (63,), (16, 16), (9, 12), (6, 5, 8)]


def smooth_gains(shape, seed=0, n=3):
    """Return gains whose logarithm is a sum of few waves, as those of short filters are."""
    rng = np.random.default_rng(seed)
    cepstrum = np.zeros((n, *shape))
    cepstrum[(slice(None), *(slice(0, 3) for _ in shape))] = rng.normal(0, 0.2, (n, *(min(3, size) for size in shape)))
    return np.exp(np.fft.fftn(cepstrum, axes=range(1, len(shape) + 1)).real)


def rough_gains(shape, seed=0, n=3):
    """Return gains over eight powers of ten, without order."""
    X = np.random.default_rng(seed).standard_normal((n, *shape))
    return 10 ** (2 * np.fft.fftn(X, axes=range(1, len(shape) + 1), norm="ortho").real)


@pytest.mark.parametrize("phase", ["zero", "minimum"])
@pytest.mark.parametrize("gains", [smooth_gains, rough_gains])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_gain_is_that_which_was_given(shape, gains, phase):
    expected = gains(shape)
    filters = impulse_responses(expected, phase)
    assert filters.dtype == np.float64
    found = np.abs(np.fft.fftn(filters, axes=range(1, len(shape) + 1))) ** 2
    np.testing.assert_allclose(found, expected**2, rtol=1e-6)


@pytest.mark.parametrize("phase", ["zero", "minimum"])
def test_a_gain_of_zero_stays(phase):
    gains = smooth_gains((8, 8))
    gains[:, 0, 0] = 0
    filters = impulse_responses(gains, phase)
    np.testing.assert_allclose(np.abs(np.fft.fft2(filters)), gains, atol=1e-12)
    np.testing.assert_allclose(filters.sum(axis=(1, 2)), 0, atol=1e-12)


def test_a_filter_of_minimum_phase_is_found_again():
    # Zeros of f(z) = Π (1 − z_i/z) inside the unit circle: causal, as is its inverse.
    short = np.poly([0.5, -0.6, 0.4 + 0.5j, 0.4 - 0.5j]).real
    whole = np.pad(short, (0, 128 - len(short)))
    for given in (whole, np.roll(whole[::-1], len(short))):  # turned round, of the same gain but of maximum phase
        found = impulse_responses(np.abs(np.fft.fft(given))[None], "minimum")[0]
        np.testing.assert_allclose(found, whole, atol=1e-6)


def test_a_filter_of_a_half_plane_is_found_again():
    # In the half plane of rows ahead, and small enough to have an inverse there.
    whole = np.zeros((48, 48))
    whole[0, 0], whole[0, 1], whole[1, 0], whole[1, 1], whole[1, -1] = 1, 0.2, -0.15, 0.15, 0.1
    found = impulse_responses(np.abs(np.fft.fft2(whole))[None], "minimum")[0]
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-6)


def energy(filters):
    """Return the share of the energy in the first quarter of the values, row by row, (K,)."""
    squares = filters.reshape(len(filters), -1) ** 2
    return squares[:, : squares.shape[1] // 4].sum(axis=1) / squares.sum(axis=1)


@pytest.mark.parametrize("shape", SHAPES[:4], ids=str)  # a quarter of few rows is no measure
def test_minimum_phase_has_its_energy_first(shape):
    gains = smooth_gains(shape, n=20)
    filters = impulse_responses(gains, "minimum")
    assert (energy(filters) > energy(impulse_responses(gains, "zero"))).all()
    assert energy(filters).mean() > 0.95
    rng = np.random.default_rng(1)  # any other phase: that of a random signal
    others = np.exp(1j * np.angle(np.fft.fftn(rng.standard_normal(gains.shape), axes=range(1, gains.ndim))))
    assert (energy(filters) > energy(np.fft.ifftn(gains * others, axes=range(1, gains.ndim)).real)).all()


@pytest.mark.parametrize("mixture", [ConvGMM(4, random_state=0), TorusGMM(4, torus_shape=(12, 12), random_state=0)])
def test_of_photographs(mixture):
    patches = extract_patches(load_sample_images(), (8, 8), 3000, random_state=0)
    mixture.set_params(max_iter=10, tol=0.5).fit(patches)
    filters = mixture.filters(phase="minimum")
    gain = np.abs(np.fft.fft2(filters)) ** 2
    np.testing.assert_allclose(gain, mixture.filter_spectra_, rtol=1e-6, atol=1e-9 * gain.max())
    assert (energy(filters) > energy(mixture.filters())).all()
    with pytest.raises(ValueError, match="phase must be one of zero, minimum"):
        mixture.filters(phase="linear")

"""Components of narrow bands: the M-step against every other choice of frequencies, and what is kept of the limit."""

import itertools
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import convgmm
from convgmm import ConvGMM, LikelihoodWarning
from convgmm.basis import DCT, Fourier
from convgmm.families import Spectral
from convgmm.families.spectral import Spectra, SpectralFrame, SpectralStatistics


def n_above(plane):
    """Return at how many frequencies but 0 spectra on the plane (K, *shape) stand above their background."""
    flat = plane.reshape(len(plane), -1)[:, 1:]
    return (flat > flat.min(axis=1, keepdims=True) * (1 + 1e-9)).sum(axis=1)


def bands(rng, n=400, shape=(9, 9)):
    """Return samples of noise with one or the other frequency in it."""
    X = rng.standard_normal((n, *shape))
    phase = rng.uniform(0, 2 * np.pi, (n, 1, 1))
    i, j = np.indices(shape)
    X[: n // 2] += 3 * np.cos(2 * np.pi * 2 * i / shape[0] + phase[: n // 2])
    X[n // 2 :] += 3 * np.cos(2 * np.pi * (j + i) / shape[1] + phase[n // 2 :])
    return X


@pytest.mark.parametrize("basis", [Fourier((4, 3), False), Fourier((11,), True), Fourier((8,), False), DCT((7,), True)])
@pytest.mark.parametrize("bandwidth", [0.1, 0.4, 0.75, 1.0])
def test_a_step_finds_the_likeliest_narrow_spectra(basis, bandwidth, rng):
    m = basis.multiplicities
    power, count = rng.exponential(size=(3, len(m))) ** 2, np.array([2.0, 5.0, 0.5])
    family = Spectral(basis, bandwidth=bandwidth)
    found = family.maximize(
        SpectralStatistics(count, power * count[:, None], 0.0), Spectra(np.full(3, 1 / 3), power), SpectralFrame(1e-12)
    ).spectra
    counted = np.flatnonzero(m == m.max())
    size = int(bandwidth * len(counted))
    for P, S in zip(power, found, strict=True):
        best = np.inf
        for band in itertools.combinations(counted, size):
            others = np.setdiff1d(counted, band)
            spectrum = P.copy()
            if len(others):
                spectrum[others] = P[others].mean()
                if len(band) and P[list(band)].min() < P[others].mean():
                    continue  # not above its background
            best = min(best, (m * (P / spectrum + np.log(spectrum))).sum())
        assert (m * (P / S + np.log(S))).sum() == pytest.approx(best, rel=1e-12)
    free = len(m) - len(counted) + size + (size < len(counted))
    assert family.parameters_per_component({}) == free


@pytest.mark.parametrize("trial", range(12))
def test_the_likelihood_never_falls(trial):
    rng = np.random.default_rng([3, trial])
    X = bands(rng, 200, ((9, 9), (6, 7))[trial % 2]) * rng.exponential(size=(200, 1, 1))
    model = ConvGMM(
        3,
        bandwidth=float(rng.uniform(0.02, 0.9)),
        remove_mean=bool(rng.integers(2)),
        reg_spectrum=float(10 ** rng.uniform(-6, -0.5)),
        scales=(1, 3)[rng.integers(2)],
        basis=("fourier", "dct")[rng.integers(2)],
        accelerate=(None, "squarem")[rng.integers(2)],
        tol=0,
        max_iter=25,
        random_state=trial,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", LikelihoodWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X)
    assert (np.diff(model.lower_bounds_[1:]) >= -1e-9).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_bands_are_found_and_kept(rng, tmp_path):
    X = bands(rng)
    options = {"bandwidth": 0.025, "random_state": 0, "tol": 0, "max_iter": 30}
    model = ConvGMM(2, **options).fit(X)
    assert (n_above(model.spectra_) == 2).all()  # one pair of 40
    peaks = {int(np.argmax(spectrum.ravel())) for spectrum in model.spectra_}
    assert peaks == {2 * 9, 9 + 1}
    assert model.aic(X) < ConvGMM(2, random_state=0, tol=0, max_iter=30).fit(X).aic(X)
    model.save(tmp_path / "narrow")
    again = convgmm.load(tmp_path / "narrow").set_params(warm_start=True, max_iter=2).fit(X)
    assert (n_above(again.spectra_) == 2).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error", LikelihoodWarning)  # a wide start may fall
        wide = ConvGMM(2, random_state=0, max_iter=5).fit(X).set_params(warm_start=True, **options).fit(X)
    assert (n_above(wide.spectra_) == 2).all()


@pytest.mark.parametrize("bandwidth", [0, 1.5, -0.1, "narrow"])
def test_a_bandwidth_out_of_range_is_refused(bandwidth, rng):
    with pytest.raises(ValueError, match="bandwidth"):
        ConvGMM(2, bandwidth=bandwidth).fit(bands(rng, 20))

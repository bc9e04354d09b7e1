"""Squared coefficients against full transforms, for every kind of shape."""

import numpy as np
import pytest

import oracle
from convgmm.basis import DCT, Fourier

SHAPES = [(1,), (2,), (7,), (12,), (31,), (4, 4), (8, 8), (16, 16), (7, 5), (5, 8), (8, 5), (1, 6), (6, 1), (13, 13)]
SHAPES += [(28, 28), (3, 4, 5), (4, 4, 4), (2, 3, 6), (300,), (5, 300)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("remove_mean", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-6), (np.float64, 1e-13)])
def test_matches_the_full_transform(shape, remove_mean, dtype, tolerance, rng):
    half = Fourier(shape, remove_mean)
    patches = rng.standard_normal((150, *shape)).astype(dtype)
    plane = oracle.periodograms(patches, remove_mean)
    P = half.coefficients(patches.reshape(150, -1), 2)
    assert P.dtype == dtype
    spread = half.to_plane(P.astype(np.float64)).reshape(150, -1)
    np.testing.assert_allclose(spread, np.nan_to_num(plane, nan=0.0), rtol=0, atol=tolerance * np.prod(shape))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("remove_mean", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-6), (np.float64, 1e-13)])
def test_cosines_match_the_transform_of_scipy(shape, remove_mean, dtype, tolerance, rng):
    patches = rng.standard_normal((150, *shape)).astype(dtype)
    expected = oracle.cosine_squares(patches, remove_mean)[:, int(remove_mean) :]
    P = DCT(shape, remove_mean).coefficients(patches.reshape(150, -1), 2)
    assert P.dtype == dtype
    np.testing.assert_allclose(P, expected, rtol=0, atol=tolerance * np.prod(shape))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_multiplicities_add_up_and_hold_parseval(shape, rng):
    half = Fourier(shape, False)
    assert half.multiplicities.sum() == np.prod(shape)
    assert set(half.multiplicities) <= {1.0, 2.0}
    patches = rng.standard_normal((10, int(np.prod(shape))))
    np.testing.assert_allclose(half.coefficients(patches, 1) @ half.multiplicities, (patches**2).sum(axis=1))


@pytest.mark.parametrize(("shape", "count"), [((16, 16), 130), ((8, 8), 34), ((28, 28), 394)])
def test_number_of_distinct_frequencies(shape, count):
    assert len(Fourier(shape, False).multiplicities) == count
    assert len(Fourier(shape, True).multiplicities) == count - 1


def test_planes_and_half_spectra_are_inverse(rng):
    half = Fourier((6, 5), True)
    planes = oracle.symmetric_spectra(rng, 3, (6, 5))
    assert half.is_symmetric(planes)
    planes[:, 0, 0] = 0
    np.testing.assert_array_equal(half.to_plane(half.from_plane(planes)), planes)
    planes[1, 2, 3] *= 1.001
    assert not half.is_symmetric(planes)


def test_every_plane_of_cosine_variances_is_one(rng):
    basis = DCT((6, 5), True)
    planes = rng.uniform(1, 2, (3, 6, 5))
    planes[:, 0, 0] = 0
    np.testing.assert_array_equal(basis.to_plane(basis.from_plane(planes)), planes)
    basis.check_planes(planes, "spectra")
    assert basis.multiplicities.sum() == basis.degrees_of_freedom == 29


@pytest.mark.parametrize("kind", [Fourier, DCT])
def test_a_large_mean_leaves_no_rounding(kind, rng):
    patches = rng.standard_normal((20, 256)).astype(np.float32)
    half = kind((16, 16), True)
    shifted = (patches + np.float32(1000)).astype(np.float32)
    exact = half.coefficients(shifted.astype(np.float64), 1)
    np.testing.assert_allclose(half.coefficients(shifted, 1), exact, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", [Fourier, DCT])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_bits_for_any_number_of_threads_and_any_address(kind, dtype, rng):
    half = kind((9, 8), True)
    patches = rng.standard_normal((5001, 72)).astype(dtype)
    expected = half.coefficients(patches, 1)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(half.coefficients(patches, threads), expected)
    memory = np.empty(patches.size + 1, dtype)[1:].reshape(patches.shape)  # off by one value from any alignment
    memory[:] = patches
    np.testing.assert_array_equal(half.coefficients(memory, 1), expected)

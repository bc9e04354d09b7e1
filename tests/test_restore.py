"""Restoration beside a slow float64 counterpart, for any threads, dtypes and operators."""

from pathlib import Path

import numpy as np
import pytest
from scipy.fft import dctn

import oracle
from convgmm import ConvGMM, FullGMM, TorusGMM, octaves, restore
from convgmm.datasets import load_sample_images
from convgmm.families.gaussians import average_of_patches

SIGMA = 0.1
W = restore.WEIGHTING
PLAIN = {"octaves": 1, "adapt": 0}


def scene(shape=(31, 37), seed=0):
    """Return an image with flat parts, edges and texture, from 0 to 1."""
    grid = np.meshgrid(*(np.linspace(0, 1, size) for size in shape), indexing="ij")
    wave = np.sin(40 * grid[-1] + 20 * grid[0]) * (grid[0] > 0.5)
    return 0.5 + 0.3 * np.sign(sum(grid) - len(shape) / 2) + 0.15 * wave


def noisy(shape=(31, 37), sigma=SIGMA, seed=1):
    return scene(shape) + sigma * np.random.default_rng(seed).standard_normal(shape)


def patches(patch, remove_mean, n=600):
    image = scene(tuple(6 * size for size in patch)) + 0.02 * np.random.default_rng(2).standard_normal(
        tuple(6 * size for size in patch)
    )
    views = np.lib.stride_tricks.sliding_window_view(image, patch).reshape(-1, *patch)
    chosen = views[np.random.default_rng(3).integers(0, len(views), n)]
    return chosen - chosen.mean(axis=tuple(range(1, chosen.ndim)), keepdims=True) if remove_mean else chosen


def conv(patch=(5, 6), remove_mean=True, **options):
    return ConvGMM(4, remove_mean=remove_mean, tol=0.5, random_state=0, **options).fit(patches(patch, remove_mean))


def full(patch=(6, 6), remove_mean=True, means="zero", **options):
    model = FullGMM(3, means=means, reg_covar=1e-5, tol=0.5, random_state=0, **options)
    return model.fit(patches(patch, remove_mean))


def torus(patch=(6, 6), remove_mean=True, **options):
    model = TorusGMM(4, torus_shape=(9, 9), remove_mean=remove_mean, tol=0.5, random_state=0, **options)
    return model.fit(patches(patch, remove_mean))


def mixture_of(model):
    """Return weights, means and covariances of flattened patches in the oracle's form, one for each scale."""
    if hasattr(model, "covariances_"):
        covariances = model.covariances_
    elif model.basis == "fourier":
        covariances = oracle.circulant(model.spectra_)
    else:
        covariances = oracle.reflected(model.spectra_)
    means = getattr(model, "means_", np.zeros(covariances.shape[:2]))
    if not hasattr(model, "scales_"):
        return model.weights_, means, covariances
    weights = (model.weights_[:, None] * model.scale_weights_).ravel()
    scaled = covariances[:, None] * model.scales_[:, None, None] ** 2
    means = np.repeat(means, len(model.scales_), axis=0)
    return np.maximum(weights, 1e-300), means, scaled.reshape(-1, *covariances.shape[1:])


CASES = {
    "spectra": (conv, {}, (31, 37)),
    "spectra with means": (conv, {"remove_mean": False}, (31, 37)),
    "spectra of signals": (conv, {"patch": (12,)}, (300,)),
    "spectra of volumes": (conv, {"patch": (4, 3, 4)}, (9, 11, 10)),
    "cosines": (conv, {"basis": "dct"}, (31, 37)),
    "cosines with means": (conv, {"basis": "dct", "remove_mean": False}, (31, 37)),
    "windows of a torus": (torus, {}, (31, 37)),
    "zero means": (full, {}, (31, 37)),
    "free means": (full, {"remove_mean": False, "means": "free"}, (31, 37)),
    "few features": (full, {"patch": (4, 4), "remove_mean": False}, (31, 37)),
    "spectra, scales": (conv, {"scales": 3}, (31, 37)),
    "cosines, scales": (conv, {"basis": "dct", "scales": 3}, (31, 37)),
    "windows of a torus, scales": (torus, {"scales": 3}, (31, 37)),
    "zero means, scales": (full, {"scales": 3}, (31, 37)),
}


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_the_average_of_all_patches_is_that_of_the_oracle(case, average):
    make, options, shape = CASES[case]
    model = make(**options)
    removed = options.get("remove_mean", True)
    gaussians = model.model_.gaussians().for_patches_without_mean()
    assert gaussians.removes_mean == removed
    y = noisy(shape)
    expected = oracle.denoised_image(
        y, model.model_.shape, removed, *mixture_of(model), noise_var=SIGMA**2, average=average, weighting=W
    )
    exact = average_of_patches(gaussians, y, model.model_.shape, SIGMA**2, average=average, weighting=W)
    np.testing.assert_allclose(exact, expected, atol=1e-7)
    restored = restore.denoise(y.astype(np.float32), SIGMA, model, average=average, **PLAIN)
    assert restored.dtype == np.float32
    np.testing.assert_allclose(restored, expected, atol=1e-4)
    assert np.std(expected - scene(shape)) < 0.9 * SIGMA


def strided(image, patch, apart, remove_mean):
    views = np.lib.stride_tricks.sliding_window_view(image, patch)[(slice(None, None, apart),) * len(patch)]
    flat = views.reshape(-1, np.prod(patch))
    return flat - flat.mean(axis=1, keepdims=True) if remove_mean else np.ascontiguousarray(flat)


def adapted_mixture(model, flat, mixture, noise_var, prior_count):
    """Return the oracle's mixture after a step, with covariances of the model's form: others do not fit it better."""
    weights, covariances = oracle.adapted_mixture(flat, *mixture, noise_var, prior_count)
    patch = model.model_.shape
    if not hasattr(model, "covariances_"):
        basis = np.eye(len(covariances[0])).reshape(-1, *patch)
        axes = tuple(range(1, len(patch) + 1))
        if model.basis == "fourier":
            rows = np.fft.fftn(basis, axes=axes, norm="ortho").reshape(len(basis), -1).T
            diagonal = np.einsum("ei,kij,ej->ke", rows, covariances, rows.conj()).real
            covariances = oracle.circulant(diagonal.reshape(-1, *patch))
        else:
            rows = dctn(basis, axes=axes, norm="ortho").reshape(len(basis), -1).T
            covariances = oracle.reflected(np.einsum("ei,kij,ej->ke", rows, covariances, rows).reshape(-1, *patch))
    return weights, mixture[1], covariances


def covariances_of(gaussians):
    if hasattr(gaussians, "covariances"):
        return gaussians.axes @ gaussians.covariances @ gaussians.axes.T
    return np.stack([gaussians.axes @ np.diag(v[gaussians.group]) @ gaussians.axes.T for v in gaussians.variances])


@pytest.mark.parametrize("case", CASES)
def test_a_step_of_adaptation_is_that_of_the_oracle(case):
    make, options, shape = CASES[case]
    model = make(**options)
    flat = strided(noisy(shape), model.model_.shape, 2, options.get("remove_mean", True))
    mixture = mixture_of(model)
    mixture = tuple(part[mixture[0] > 1e-290] for part in mixture)  # scales that are never used are no Gaussians
    weights, _, covariances = adapted_mixture(model, flat, mixture, SIGMA**2, 5.0)
    gaussians = model.model_.gaussians().for_patches_without_mean()
    one = gaussians.adapted(flat, SIGMA**2, 5.0, n_threads=1)
    np.testing.assert_allclose(np.exp(one.log_weights), weights, atol=1e-9)
    np.testing.assert_allclose(covariances_of(one), covariances, atol=1e-9)
    assert np.abs(covariances_of(one) - covariances_of(gaussians)).max() > 1e-3
    two = gaussians.adapted(flat, SIGMA**2, 5.0, n_threads=2)
    np.testing.assert_array_equal(covariances_of(one), covariances_of(two))
    np.testing.assert_array_equal(one.log_weights, two.log_weights)
    single = gaussians.adapted(flat.astype(np.float32), SIGMA**2, 5.0)
    np.testing.assert_allclose(covariances_of(single), covariances, atol=2e-5)
    few = gaussians.adapted(flat[:1], SIGMA**2, 1e9)
    np.testing.assert_allclose(covariances_of(few), covariances_of(gaussians), atol=1e-6)


@pytest.mark.parametrize("case", ["spectra", "spectra of volumes", "zero means", "windows of a torus, scales"])
def test_noise_is_taken_out_by_octaves_with_adapted_mixtures(case):
    make, options, shape = CASES[case]
    model = make(**options)
    patch, y = model.model_.shape, noisy(shape)

    def change(image, sigma):
        flat = strided(image, patch, restore.LEAST_APART, True)
        mixture = adapted_mixture(model, flat, mixture_of(model), sigma**2, restore.PRIOR_COUNT)
        return oracle.denoised_image(image, patch, True, *mixture, noise_var=sigma**2, average=False, weighting=W)

    fits = all((size + 1) // 2 >= 2 * side for size, side in zip(shape, patch, strict=True))
    expected = oracle.by_octaves(y, SIGMA, change, 1 + fits, octaves.SHARE)
    restored = restore.denoise(y.astype(np.float32), SIGMA, model)
    np.testing.assert_allclose(restored, expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(31, 37), (90,), (16, 21, 17)])
def test_octaves_are_put_together_as_by_matrices(shape):
    y, seen = noisy(shape), []

    def change(image, sigma):
        seen.append((image.shape, sigma))
        return image**3 + sigma

    found = octaves.by_octaves(y.astype(np.float32), 0.2, change, (8,) * len(shape), 2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, oracle.by_octaves(y, 0.2, change, 2, octaves.SHARE), atol=2e-5)
    assert seen[:2] == seen[2:]
    assert seen[1][0] == tuple((size + 1) // 2 for size in shape)
    unchanged = octaves.by_octaves(y.astype(np.float32), 0.2, lambda image, sigma: image, (1,) * len(shape), 9)
    np.testing.assert_allclose(unchanged, y, atol=1e-5)


def test_noise_is_white_in_every_octave():
    noise = np.random.default_rng(0).standard_normal((256, 300)).astype(np.float32)
    seen = []
    octaves.by_octaves(noise, 1.0, lambda image, sigma: seen.append((image / sigma, sigma)) or image, (1, 1), 4)
    assert len(seen) == 4
    for number, (image, sigma) in enumerate(seen):
        assert sigma == pytest.approx(0.5**number, rel=0.02)
        assert np.std(image) == pytest.approx(1, abs=4 / np.sqrt(2 * image.size))
        assert abs(np.mean(image[1:] * image[:-1])) < 4 / np.sqrt(image.size)


@pytest.mark.parametrize("options", [{}, {"scales": 4}])
@pytest.mark.parametrize("make", [conv, torus, full])
def test_posterior_means_and_components_are_those_of_the_oracle(make, options):
    model = make(**options)
    X = patches(model.model_.shape, True, 300)
    X = X + SIGMA * np.random.default_rng(4).standard_normal(X.shape)
    flat = X.reshape(len(X), -1)
    mean = flat.mean(axis=1, keepdims=True) * (make is not full)  # that models whole vectors, whatever they are
    expected, best = oracle.denoised_patches(flat - mean, *mixture_of(model), SIGMA**2, average=True)
    found = model.posterior_mean(X, SIGMA**2)
    np.testing.assert_allclose(found.reshape(len(X), -1), expected + mean, atol=1e-7)
    np.testing.assert_array_equal(model.map_component(X, SIGMA**2), best // options.get("scales", 1))
    assert len(np.unique(best)) > 1
    assert model.posterior_mean(X.astype(np.float32), SIGMA**2).dtype == np.float32
    with pytest.raises(ValueError, match="noise_var must be positive"):
        model.posterior_mean(X, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("noise_var", [1e-4, 0.01, 1.0])
@pytest.mark.parametrize("means", ["zero", "free"])
def test_the_pruned_choice_is_exact(means, noise_var, dtype):
    rng = np.random.default_rng(10)
    K, D = 20, 64
    size = 1 / (1 + np.arange(D))
    factors = rng.standard_normal((K, D, D)) * size[:, None] * size / np.sqrt(1 + np.arange(K))[:, None, None]
    covariances = factors @ factors.transpose(0, 2, 1) + 1e-6 * np.eye(D)
    centres = np.zeros((K, D)) if means == "zero" else 0.3 * rng.standard_normal((K, D)) * size
    weights = rng.dirichlet(np.ones(K))
    model = FullGMM.from_parameters(weights, "zero" if means == "zero" else centres, covariances)
    X = model.set_params(random_state=0).sample(2000)[0] * rng.choice([1e-6, 0.3, 1, 3], (2000, 1))
    X += np.sqrt(noise_var) * rng.standard_normal(X.shape) * rng.choice([1e-6, 1], (2000, 1))
    _, best = oracle.denoised_patches(X, weights, centres, covariances, noise_var, average=False)
    found = model.map_component(X.astype(dtype), noise_var)
    if dtype == np.float64:
        np.testing.assert_array_equal(found, best)
    else:  # ties to rounding
        assert (found == best).mean() > 0.995


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("make", [conv, full])
def test_images_of_many_tiles_do_not_depend_on_threads(make, stride):
    model = make()
    y = noisy((150, 333)).astype(np.float32)
    one = restore.denoise(y, SIGMA, model, stride=stride, seed=3, n_threads=1)
    two = restore.denoise(y, SIGMA, model, stride=stride, seed=3, n_threads=2)
    np.testing.assert_array_equal(one, two)
    assert np.isfinite(one).all()
    if stride == 1:  # beside the patches estimated as samples, and added up here
        patch, gaussians = model.model_.shape, model.model_.gaussians()
        one = average_of_patches(gaussians, y, patch, SIGMA**2)
        views = np.lib.stride_tricks.sliding_window_view(y, patch)
        flat = np.ascontiguousarray(views).reshape(-1, np.prod(patch))
        estimates = gaussians.estimate(flat, SIGMA**2)[0].reshape(views.shape)
        total, count = np.zeros(y.shape), np.zeros(y.shape)
        for i, j in np.ndindex(*patch):
            rows, columns = slice(i, i + views.shape[0]), slice(j, j + views.shape[1])
            total[rows, columns] += estimates[:, :, i, j]
            count[rows, columns] += 1
        np.testing.assert_allclose(one, total / count, atol=1e-5)
    else:
        other = restore.denoise(y, SIGMA, model, stride=stride, seed=4)
        assert not np.array_equal(one, other)
        assert np.std(one - other) < 0.5 * SIGMA


def test_dtypes_colours_and_alpha_are_kept():
    model = conv()
    clean = np.stack([scene(), 0.9 * scene(), 1 - scene()], axis=-1)
    y = clean + SIGMA * np.random.default_rng(5).standard_normal(clean.shape)
    as_float = restore.denoise(y, SIGMA, model)
    assert as_float.dtype == np.float64
    assert np.std(as_float - clean) < 0.7 * SIGMA
    for dtype in (np.uint8, np.uint16):
        white = np.iinfo(dtype).max
        pixels = np.clip(np.rint(y * white), 0, white).astype(dtype)
        alpha = np.arange(pixels[..., :1].size).reshape(*pixels.shape[:2], 1).astype(dtype)
        restored = restore.denoise(np.concatenate([pixels, alpha], axis=-1), SIGMA * white, model)
        assert restored.dtype == dtype
        np.testing.assert_array_equal(restored[..., 3:], alpha)
        np.testing.assert_allclose(
            restored[..., :3] / white,
            restore.denoise(pixels / white, SIGMA, model).clip(0, 1),
            atol=0.51 / white + 1e-5,
        )
        grey = restore.denoise(np.concatenate([pixels[..., :1], alpha], axis=-1), SIGMA * white, model)
        np.testing.assert_array_equal(grey[..., 0], restore.denoise(pixels[..., 0], SIGMA * white, model))
    np.testing.assert_array_equal(restore.denoise(pixels, 0, model), pixels)


def test_sigma_is_estimated():
    for shape in ((200,), (128, 96), (20, 30, 25)):
        found = restore.estimate_sigma(noisy(shape, 0.05))
        assert found == pytest.approx(0.05, rel=0.25)
    y = noisy((64, 64))
    model = conv()
    np.testing.assert_array_equal(
        restore.denoise(y, None, model), restore.denoise(y, restore.estimate_sigma(y.astype(np.float32)), model)
    )


def test_splitting_is_that_of_its_formula():
    model, y = full(), noisy()
    betas = (1, 4, 16)
    x = y
    for beta in betas:
        z = oracle.denoised_image(
            x, (6, 6), True, *mixture_of(model), noise_var=SIGMA**2 / beta, average=False, weighting=W
        )
        x = (y + beta * z) / (1 + beta)
    np.testing.assert_allclose(restore.denoise(y, SIGMA, model, betas=betas, **PLAIN), x, atol=1e-4)
    general = restore.restore(y, lambda x: x, lambda y: y, SIGMA, np.array(betas) / SIGMA**2, model)
    np.testing.assert_allclose(general, x, atol=1e-4)


def test_missing_values_are_filled_and_known_ones_kept():
    model, image = full(), scene((48, 48))
    missing = np.random.default_rng(6).random(image.shape) < 0.3
    damaged = np.where(missing, np.nan, image)
    restored = restore.inpaint(damaged, missing, model)
    np.testing.assert_array_equal(restored[~missing], image[~missing])
    nearest = restore._filled(np.where(missing, 0, image).astype(np.float32), missing)
    error = np.sqrt(np.mean((restored - image)[missing] ** 2))
    assert error < 0.6 * np.sqrt(np.mean((nearest - image)[missing] ** 2))
    pixels = np.stack([np.rint(255 * image).astype(np.uint8)] * 4, axis=-1)
    whole = restore.inpaint(pixels, missing, model)
    np.testing.assert_array_equal(whole[~missing], pixels[~missing])
    np.testing.assert_array_equal(whole[..., 3], pixels[..., 3])


@pytest.mark.parametrize(("shape", "block"), [((96, 96), 1), ((300, 280), 16)])
def test_little_that_is_known_is_carried_far(shape, block):
    missing = np.ones(shape, dtype=bool)
    missing[5 : 5 + block, 7 : 7 + block] = False
    missing[-1, -1] = False
    values = np.where(missing, 0, 0.25).astype(np.float32)
    values[-1, -1] = 0.75
    filled = restore._filled(values, missing)
    np.testing.assert_allclose(filled[: shape[0] // 3, : shape[1] // 3], 0.25, atol=1e-6)
    np.testing.assert_allclose(filled[-9:, -9:], 0.75, atol=1e-6)


@pytest.mark.parametrize("make", [conv, full])
def test_a_patch_without_density_is_named(make):
    model = make()
    X = np.random.default_rng(9).standard_normal((3000, *model.model_.shape)).astype(np.float32)
    X[2500] *= 1e25
    with pytest.raises(ValueError, match="sample 2500 has no finite"):
        model.posterior_mean(X, SIGMA**2)
    with pytest.raises(ValueError, match="a patch of the image has no finite"):
        restore.denoise(1e25 * noisy().astype(np.float32), SIGMA, model)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint64])
def test_wide_integers_need_a_range_and_do_not_wrap(dtype, model):
    white = np.iinfo(dtype).max
    image = np.full((12, 12), white, dtype=dtype)
    with pytest.raises(ValueError, match="pass data_range"):
        restore.denoise(image, 5, model)
    restored = restore.denoise(image, 0.1 * white, model, data_range=float(white))
    assert restored.dtype == dtype
    assert restored.min() > 0.99 * white
    pixels = np.rint(255 * noisy()).clip(0, 255)
    few = restore.denoise(pixels.astype(dtype), 25.5, model, data_range=255)
    np.testing.assert_array_equal(few, restore.denoise(pixels.astype(np.uint8), 25.5, model))


def test_blur_is_undone():
    from scipy.signal import fftconvolve

    model, sharp = full(), scene((60, 60))
    kernel = np.ones((5, 4)) / 20
    blurred = fftconvolve(sharp, kernel, mode="valid")
    y = blurred + 0.002 * np.random.default_rng(7).standard_normal(blurred.shape)
    restored = restore.deblur(y, kernel, 0.002, model)
    assert restored.shape == y.shape
    inside = sharp[2:-2, 2:-1]  # the centre of 4 values is the second: an output's place is one before its middle
    errors = {shift: np.std(restored - sharp[2 : 2 + y.shape[0], shift : shift + y.shape[1]]) for shift in range(4)}
    assert min(errors, key=errors.get) == 2
    assert errors[2] < 0.6 * np.std(y - inside)


BAD = {
    "NaN": (lambda m: restore.denoise(np.full((9, 9), np.nan), 0.1, m), "NaN"),
    "negative sigma": (lambda m: restore.denoise(scene(), -1, m), "sigma must be"),
    "no numbers": (lambda m: restore.denoise(scene() > 0, 0.1, m), "dtype bool"),
    "small": (lambda m: restore.denoise(scene((4, 9)), 0.1, m), "smaller than a patch"),
    "axes": (lambda m: restore.denoise(np.ones((9, 9, 5)), 0.1, m), "palette"),
    "stride": (lambda m: restore.denoise(scene(), 0.1, m, stride=4), "stride must be at most 3"),
    "no stride": (lambda m: restore.denoise(scene(), 0.1, m, stride=0), "stride must be a positive"),
    "betas": (lambda m: restore.denoise(scene(), 0.1, m, betas=[1, -1]), "betas must be positive"),
    "octaves": (lambda m: restore.denoise(scene(), 0.1, m, octaves=0), "octaves must be a positive"),
    "adapt": (lambda m: restore.denoise(scene(), 0.1, m, adapt=-1), "adapt must be an int"),
    "range": (lambda m: restore.denoise(scene(), 0.1, m, data_range=0), "data_range must be positive"),
    "mask": (lambda m: restore.inpaint(scene(), np.zeros((3, 3), dtype=bool), m), "mask has shape"),
    "mask of numbers": (lambda m: restore.inpaint(scene(), np.zeros((31, 37)), m), "boolean"),
    "nothing": (lambda m: restore.inpaint(scene(), np.ones((31, 37), dtype=bool), m), "nothing is known"),
    "large kernel": (lambda m: restore.deblur(scene(), np.ones((40, 3)), 0.1, m), "kernel has shape"),
    "empty kernel": (lambda m: restore.deblur(scene(), np.zeros((3, 3)), 0.1, m), "not all 0"),
    "no noise": (lambda m: restore.deblur(scene(), np.ones((3, 3)), 0.0, m), "sigma must be positive"),
    "measured": (lambda m: restore.restore([[np.inf]], np.asarray, np.asarray, 0.1, model=m), "infinite"),
    "pixel": (lambda m: restore.estimate_sigma(np.ones((1, 5))), "too small"),
}


@pytest.fixture(scope="module")
def model():
    return full()


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case, model):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call(model)


def test_what_is_no_mixture_is_refused():
    with pytest.raises(TypeError, match="fitted mixture"):
        restore.denoise(scene(), 0.1, 3)
    with pytest.raises(FileNotFoundError):
        restore.denoise(scene(), 0.1, "nowhere.npz")


def test_an_image_of_other_axes_is_called_so(model):
    with pytest.raises(ValueError, match="not as many axes"):
        restore.restore(np.ones(40), np.asarray, np.asarray, 0.1, model=conv())


def test_the_shipped_prior_takes_noise_out_of_a_photograph():
    path = Path(restore.__file__).with_name("prior.npz")
    assert path.stat().st_size <= 300_000
    clean = load_sample_images()[1][100:228, 250:410]
    y = clean + 25 / 255 * np.random.default_rng(8).standard_normal(clean.shape)
    restored = restore.denoise(y)
    assert np.std(restored - clean) < 0.45 * 25 / 255
    np.testing.assert_allclose(restored, restore.denoise(y.astype(np.float32)), atol=1e-3)
    assert np.std(restore.denoise(y, stride=2) - clean) < 0.45 * 25 / 255
    errors = [
        np.std(restore.denoise(y, 25 / 255, octaves=octaves, adapt=adapt) - clean)
        for octaves, adapt in ((1, 0), (3, 0), (3, 1), (3, 2))
    ]
    assert errors == sorted(errors, reverse=True)

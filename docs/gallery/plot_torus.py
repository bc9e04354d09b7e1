"""
Windows of fields
=================

A circulant component joins a patch's opposite borders. A patch that is a window of a field on a larger torus has no
such seam: the components stay stationary, and describe patches far better.
"""

# %%
# Both mixtures see the same patches of two photographs, with noise as large as their steps from grey level to grey
# level, so that neither can gain from the rounding.
import matplotlib.pyplot as plt
import numpy as np

from convgmm import ConvGMM, TorusGMM, plotting
from convgmm.datasets import extract_patches, load_sample_images

patches = extract_patches(load_sample_images(), (8, 8), 24_000, random_state=0)
patches += (np.random.default_rng(0).uniform(size=patches.shape) / 255).astype(np.float32)
train, test = patches[:16_000], patches[16_000:]
circulant = ConvGMM(12, tol=1e-2, random_state=0).fit(train)
torus = TorusGMM(12, torus_shape=(16, 16), tol=1e-2, random_state=0).fit(train)
for name, model in (("circulant", circulant), ("torus", torus)):
    print(f"{name:>9}: {model.score(test):6.2f} nats a patch, {model.model_.n_parameters():,} parameters")

# %%
# The covariance of the middle of a patch's left border with all of the patch shows the difference: in the circulant
# component that is most like one of the torus, the right border echoes the left one.
place = 4 * 8  # row 4, column 0
windows = torus.covariances_[:, place]
wrapped = np.roll(np.fft.ifft2(circulant.spectra_).real, 4, axis=1).reshape(12, -1)
alike = (windows @ wrapped.T) / np.linalg.norm(windows, axis=1)[:, None] / np.linalg.norm(wrapped, axis=1)
figure, axes = plt.subplots(2, 5, figsize=(8, 3.5), layout="constrained")
for pair, k in zip(axes.T, np.argsort(-alike.max(axis=1))[:10:2], strict=True):
    for axis, image, name in zip(pair, (wrapped[alike[k].argmax()], windows[k]), ("circulant", "torus"), strict=True):
        limit = np.abs(image).max()
        axis.imshow(image.reshape(8, 8), cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set_title(name, fontsize=8)
        axis.set_axis_off()
plt.show()

# %%
# Each component with the patches that it claims most surely, and its filter's power spectrum on the torus, which has
# four times as many frequencies as the patch.
plotting.plot_components(torus, test, n_patches=8)
plt.show()

# %%
# Fields drawn from the components with the largest weights: they are periodic, and twice as wide and high as a patch.
fields = np.concatenate(
    [
        TorusGMM.from_parameters([1.0], torus.spectra_[[k]], (8, 8), random_state=k).sample_field(1)[0]
        for k in np.argsort(-torus.weights_)[:8]
    ]
)
figure, axes = plt.subplots(1, 8, figsize=(9, 1.4), layout="constrained")
for axis, field in zip(axes, fields, strict=True):
    axis.imshow(field, cmap="gray")
    axis.set_axis_off()
plt.show()

"""
Textures of spectra
===================

A component of a convolutional mixture is a stationary Gaussian, and can be drawn from: what it draws is the texture
that it stands for.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np

from convgmm import ConvGMM
from convgmm.datasets import extract_patches, load_sample_images

patches = extract_patches(load_sample_images(), (32, 32), 6_000, random_state=0)
model = ConvGMM(8, tol=1e-2, max_iter=200, random_state=0).fit(patches)

# %%
# White noise through a filter of gain √S has the spectrum S. Each row is a component: six patches drawn from it, and
# six of the photographs' that it claims most surely, at the same contrast.
rng = np.random.default_rng(0)


def draw(spectrum, n):
    white = np.fft.fft2(rng.standard_normal((n, *spectrum.shape)))
    return np.fft.ifft2(white * np.sqrt(spectrum)).real


order = np.argsort(model.spectra_.mean(axis=(1, 2)))
claimed = model.top_samples(patches, 6)
figure, axes = plt.subplots(model.n_components_, 12, figsize=(9, 0.76 * model.n_components_), layout="constrained")
for row, k in zip(axes, order, strict=True):
    drawn, found = draw(model.spectra_[k], 6), patches[claimed[k]]
    found = found - found.mean(axis=(1, 2), keepdims=True)
    limit = 3 * np.sqrt(model.spectra_[k].mean())
    for axis, image in zip(row, [*drawn, *found], strict=True):
        axis.imshow(image, cmap="gray", vmin=-limit, vmax=limit)
        axis.set_axis_off()
axes[0, 0].set_title("drawn", loc="left")
axes[0, 6].set_title("claimed", loc="left")
plt.show()

# %%
# Spectra say how strong every scale and orientation is, and nothing about where: edges, which are phases in agreement,
# dissolve in what is drawn. ``sample`` draws from the whole mixture, components and all.
X, components = model.sample(2_000)
assert abs(np.bincount(components, minlength=model.n_components_) / 2_000 - model.weights_).max() < 0.05

# %%
# A mixture fitted to its own samples finds its own spectra again.
again = ConvGMM(8, spectra_init=np.maximum(model.spectra_, 1e-9), tol=1e-3, max_iter=200).fit(X)
apart = np.log(again.spectra_[:, 1:, 1:] / model.spectra_[:, 1:, 1:]).std()
print(f"standard deviation of the spectra's logarithm from the first to the second fit: {apart:.2f}")

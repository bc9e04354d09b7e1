"""
Filters of photographs
======================

Sixteen power spectra are learnt from patches of two photographs: the components part patches by orientation and
scale, as filters of simple cells do.
"""

# %%
# Two photographs come with scikit-learn. Patches that are nearly constant are left out: without their mean, nothing
# is left of them.
import matplotlib.pyplot as plt
import numpy as np

from convgmm import ConvGMM, plotting
from convgmm.datasets import extract_patches, load_sample_images

photographs = load_sample_images()
patches = extract_patches(photographs, (16, 16), 20_000, random_state=0)
patches.shape, patches.dtype

# %%
# EM stops by itself when an iteration gains less than ``tol`` nats a patch.
model = ConvGMM(16, tol=1e-2, max_iter=200, random_state=0).fit(patches)
print(
    f"{model.n_iter_} iterations of {model.seconds_per_iteration_ * 1e3:.1f} ms, {model.lower_bound_:.2f} nats a patch"
)

# %%
# Each row is a component with the ten patches that it claims most surely, and the power spectrum of its filter: dark
# where these patches have their energy, because a filter answers little to what its component explains.
plotting.plot_components(model, patches)
plt.show()

# %%
# The likelihood never falls.
plotting.plot_likelihood(model)
assert (np.diff(model.lower_bounds_) > -1e-3).all()
plt.show()

# %%
# The same components as filters: of all phases zero is chosen, so each is symmetric about its origin, which is brought
# to the middle here.
filters = np.fft.fftshift(model.filters(), axes=(1, 2))
figure, axes = plt.subplots(2, 8, figsize=(9, 2.4), layout="constrained")
for axis, filter_ in zip(axes.flat, filters, strict=True):
    axis.imshow(filter_, cmap="gray", vmin=-abs(filter_).max(), vmax=abs(filter_).max())
    axis.set_axis_off()
plt.show()

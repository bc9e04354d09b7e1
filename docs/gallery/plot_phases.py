"""
Filters of zero and of minimum phase
====================================

A component's density tells its filter's gain and nothing of its phase. Two choices, of patches of photographs.
"""

# %%
# Components of patches of 16×16 from two photographs.
import matplotlib.pyplot as plt
import numpy as np

from convgmm import ConvGMM
from convgmm.datasets import extract_patches, load_sample_images

patches = extract_patches(load_sample_images(), (16, 16), 10_000, random_state=0)
model = ConvGMM(6, max_iter=30, tol=0.1, random_state=0).fit(patches)
filters = {phase: model.filters(phase=phase) for phase in ("zero", "minimum")}

# %%
# Zero phase is symmetric about its origin, which is in the middle here. Minimum phase is causal: in the order of the
# rows nothing stands before the origin, and as much as can be soon after it.
figure, axes = plt.subplots(2, 6, figsize=(9, 3.2))
for row, (phase, impulses) in zip(axes, filters.items(), strict=True):
    for place, impulse in zip(row, np.fft.fftshift(impulses, axes=(1, 2)), strict=True):
        limit = np.abs(impulse).max()
        place.imshow(impulse, cmap="RdBu_r", vmin=-limit, vmax=limit)
        place.set_xticks([])
        place.set_yticks([])
    row[0].set_ylabel(phase)

# %%
# The gains are the same, and so is every distance ‖f ∗ x‖².
for phase, impulses in filters.items():
    transfer = np.fft.fft2(impulses)
    flat = impulses.reshape(6, -1) ** 2
    print(
        f"{phase}: |F|² off by {np.abs(np.abs(transfer) ** 2 - model.filter_spectra_).max():.1e}, "
        f"{flat[:, :64].sum() / flat.sum():.3f} of the energy in the first quarter"
    )

# %%
# Along one axis: signals, where minimum phase is the classical one.
signals = patches[patches[:, 0].std(axis=1) > 0.01, 0]
one = ConvGMM(1, random_state=0).fit(signals)
figure, axes = plt.subplots(figsize=(5, 3))
for phase in ("zero", "minimum"):
    axes.plot(one.filters(phase=phase)[0], marker=".", label=phase)
axes.legend()
axes.set_xlabel("index")
figure.tight_layout()

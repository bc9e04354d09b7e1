"""
One texture at many contrasts
=============================

Faint and strong patches of one texture are far apart in likelihood. Components of several scales describe them as one.
"""

# %%
# Patches of two photographs, without those that are nearly flat, and others to compare densities on.
import matplotlib.pyplot as plt
import numpy as np

from convgmm import ConvGMM, plotting
from convgmm.datasets import extract_patches, load_sample_images

photographs = load_sample_images()
patches = extract_patches(photographs, (12, 12), 20_000, random_state=0)
others = extract_patches(photographs, (12, 12), 10_000, random_state=1)

# %%
# Sixteen spectra; sixteen, each at nine scales; and as many spectra as cost more parameters than the scales do.
plain = ConvGMM(16, max_iter=200, tol=0.05, random_state=0).fit(patches)
scaled = ConvGMM(16, scales=9, max_iter=200, tol=0.05, random_state=0).fit(patches)
many = ConvGMM(48, max_iter=200, tol=0.05, random_state=0).fit(patches)
for name, model in ("16 spectra", plain), ("16 at 9 scales", scaled), ("48 spectra", many):
    print(f"{name}: {model.score(others):.1f} nats a patch, {model.model_.n_parameters():,} parameters")

# %%
# The contrast of what a component claims: spectra that only differ in size sort patches by contrast.
contrast = np.log2(others.std(axis=(1, 2)))


def spread(model):
    """Return the standard deviation of log contrast within components, in octaves."""
    components = model.predict(others)
    present = [contrast[components == k] for k in range(model.n_components_)]
    return np.sqrt(sum(((each - each.mean()) ** 2).sum() for each in present if len(each)) / len(others))


print(f"spread of contrast within components: {spread(plain):.2f} octaves, with scales {spread(scaled):.2f}")

# %%
# Each component's filter beside the weights of its scales, the faintest first.
plotting.plot_components(scaled, others)
plt.show()

# %%
# The posterior over scales tells every patch's contrast against what is usual for its texture.
expected = scaled.scale_posterior(others) @ np.log2(scaled.scales_)
figure, axes = plt.subplots(figsize=(4.5, 3.5), layout="constrained")
axes.hexbin(contrast, expected, gridsize=40, cmap="Blues", mincnt=1)
axes.set_xlabel("contrast of a patch, log$_2$")
axes.set_ylabel("expected log$_2$ of its scale")
plt.show()

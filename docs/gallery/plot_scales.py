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
# Sixteen spectra; sixteen, each at nine scales; sixteen with Student's t for their tails, which is one parameter each
# for scales of every size; and as many spectra as cost more parameters than the scales do.
plain = ConvGMM(16, max_iter=200, tol=0.05, random_state=0).fit(patches)
scaled = ConvGMM(16, scales=9, max_iter=200, tol=0.05, random_state=0).fit(patches)
tails = ConvGMM(16, tails="t", max_iter=200, tol=0.05, random_state=0).fit(patches)
many = ConvGMM(48, max_iter=200, tol=0.05, random_state=0).fit(patches)
models = {"16 spectra": plain, "16 at 9 scales": scaled, "16 with tails": tails, "48 spectra": many}
for name, model in models.items():
    print(f"{name}: {model.score(others):.1f} nats a patch, {model.model_.n_parameters():,} parameters")

# %%
# The contrast of what a component claims: spectra that only differ in size sort patches by contrast.
contrast = np.log2(others.std(axis=(1, 2)))


def spread(model):
    """Return the standard deviation of log contrast within components, in octaves."""
    components = model.predict(others)
    present = [contrast[components == k] for k in range(model.n_components_)]
    return np.sqrt(sum(((each - each.mean()) ** 2).sum() for each in present if len(each)) / len(others))


for name, model in models.items():
    print(f"{name}: {spread(model):.2f} octaves of contrast within a component")

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

# %%
# How scales are distributed, around the median of each component: as the grid's weights say, and as degrees of freedom
# do, which leaves no choice but how wide.
rng = np.random.default_rng(0)
of_grid = [np.log2(rng.choice(scaled.scales_, 4000, p=weights)) for weights in scaled.scale_weights_]
of_tails = [-0.5 * np.log2(rng.chisquare(df, 4000) / df) for df in tails.df_]
print("degrees of freedom:", *tails.df_.round(1))
figure, axes = plt.subplots(figsize=(4.5, 3.5), layout="constrained")
for name, drawn in ("grid", of_grid), ("tails", of_tails):
    around = np.concatenate([each - np.median(each) for each in drawn])
    axes.hist(around, np.arange(-4, 5, 0.5), density=True, histtype="step", label=name)
axes.set_xlabel("log$_2$ of the scale, from the median of its component")
axes.legend()
plt.show()

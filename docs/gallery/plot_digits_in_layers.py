"""
Digits in layers
================

A convolutional mixture sorts digits by the direction of their strokes; a second mixture on top of its densities finds
groups of digits that respond alike.
"""

# %%
# scikit-learn's digits have 8×8 pixels. Their mean says how much ink there is, so it stays.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import normalized_mutual_info_score

from convgmm import ConvGMM, DeepGMM, FullGMM, plotting

digits = load_digits()
images = digits.images / 16

# %%
# The first layer passes on p(x|k), normalised over its components. At temperature 1 nearly every row would be 0 but for
# a single 1; densities to the power 1/10 say more about the others.
deep = DeepGMM(
    [
        ConvGMM(12, remove_mean=False, reg_spectrum=1e-4, output="likelihood", temperature=10, tol=1e-2, max_iter=200),
        FullGMM(10, reg_covar=1e-4, tol=1e-2, max_iter=200),
    ],
    random_state=0,
).fit(images)

# %%
# What each component of the first layer responds to, beside its filter.
plotting.plot_components(deep, images, layer=0)
plt.show()

# %%
# The second layer sees twelve numbers of each digit, and shows what it sorts them into by the digits themselves.
plotting.plot_components(deep, images)
plt.show()

# %%
# No layer was told which digit is which. How much does a component say about it?
for layer, mixture in enumerate(deep.layers_):
    components = deep.predict(images, layer=layer)
    information = normalized_mutual_info_score(digits.target, components)
    print(f"layer {layer}, {mixture.n_components_} components: mutual information with the classes {information:.2f}")

# %%
# A circulant component cannot tell a digit from its shifted copy, nor from one turned by 180°: power spectra know the
# directions of strokes, and no place. So threes, fives and nines share components. Full covariances on the pixels know
# where ink is.
full = FullGMM(10, reg_covar=1e-3, tol=1e-2, max_iter=200, random_state=0).fit(images)
information = normalized_mutual_info_score(digits.target, full.predict(images))
print(f"full covariances on pixels: {information:.2f}")
plotting.plot_classes(digits.target, full.predict(images), full.n_components_)
plt.show()

# %%
# The mean of a full component is a digit, that of a convolutional one is 0.
figure, axes = plt.subplots(1, full.n_components_, figsize=(9, 1.2))
for axis, mean in zip(axes, full.means_, strict=True):
    axis.imshow(np.reshape(mean, (8, 8)), cmap="gray_r")
    axis.set_axis_off()
plt.show()

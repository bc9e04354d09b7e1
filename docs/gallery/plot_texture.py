"""
Textures larger than their exemplars
====================================

A part of a photograph becomes a texture: by its spectrum alone, and by a mixture of its patches.
"""

# %%
# Leaves, which have hardly any contours, and petals, which are made of them.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_images

from convgmm import ConvGMM, texture
from convgmm.datasets import extract_patches

temple, flower = load_sample_images().images
exemplars = {"leaves": temple[347:427, 110:190], "petals": flower[220:316, 260:356]}

# %%
# Spot noise has the exemplar's colours and spectrum, and no contours; patches at four scales bring those back.
figure, axes = plt.subplots(2, 3, figsize=(9, 6), layout="constrained", width_ratios=(1, 2, 2))
for row, (name, exemplar) in zip(axes, exemplars.items(), strict=True):
    images = {
        name: exemplar,
        "spot noise": texture.from_image(exemplar).synthesize((192, 192), random_state=0),
        "patches": texture.from_image(exemplar, contours=True).synthesize((192, 192), random_state=0),
    }
    for axis, (title, image) in zip(row, images.items(), strict=True):
        axis.imshow(np.clip(image, 0, 255).astype(np.uint8))
        axis.set_title(title)
        axis.set_axis_off()
plt.show()

# %%
# Components of a mixture of photograph patches are fields as well: here four, at 128×128.
grey = [image @ np.array([0.299, 0.587, 0.114]) / 255 for image in (temple, flower)]
model = ConvGMM(8, tol=0.1, random_state=0).fit(extract_patches(grey, (16, 16), 10_000, random_state=0))
figure, axes = plt.subplots(1, 4, figsize=(9, 2.4), layout="constrained")
for component, axis in enumerate(axes):
    axis.imshow(model.synthesize((128, 128), component, random_state=0), cmap="gray")
    axis.set_axis_off()
plt.show()

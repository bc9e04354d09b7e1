"""
Scratches and missing pixels
============================

What is missing of a photograph is filled in with what its patches make likely.
"""

# %%
# Scratches and letters are marked in a mask; what the image holds there does not matter.
import matplotlib.pyplot as plt
import numpy as np

from convgmm import restore
from convgmm.datasets import load_sample_images

clean = load_sample_images()[1][80:336, 160:480]
rng = np.random.default_rng(0)
rows, columns = np.indices(clean.shape)
scratched = np.zeros(clean.shape, dtype=bool)
for _ in range(12):
    angle, offset = rng.uniform(0, np.pi), rng.uniform(-80, 320)
    scratched |= np.abs(rows * np.cos(angle) + columns * np.sin(angle) - offset) < 1.5
lost = rng.random(clean.shape) < 0.3


def show(missing):
    """Draw what is left, and what was filled in."""
    images = {"photograph": clean, "what is left": np.where(missing, 0, clean)}
    images["filled in"] = restore.inpaint(clean, missing)
    _, axes = plt.subplots(1, 3, figsize=(10.8, 3.2), layout="constrained")
    for axis, (name, image) in zip(axes, images.items(), strict=True):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1)
        axis.set_title(name)
        axis.set_axis_off()
    plt.show()


show(scratched)

# %%
# Three pixels of ten are missing.
show(lost)

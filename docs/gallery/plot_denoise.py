"""
Noise and blur
==============

A photograph with noise, and one that is out of focus, restored with the mixture of patches that comes with the package.
"""

# %%
# White noise of 25 grey levels out of 255, on a photograph that the mixture has not seen.
import matplotlib.pyplot as plt
import numpy as np
from scipy.signal import fftconvolve

from convgmm import restore
from convgmm.datasets import load_sample_images

clean = load_sample_images()[0][60:316, 120:440]
rng = np.random.default_rng(0)
noisy = clean + 25 / 255 * rng.standard_normal(clean.shape)


def show(**images):
    """Draw images side by side with their signal-to-noise ratios."""
    _, axes = plt.subplots(1, len(images), figsize=(3.6 * len(images), 3.2), layout="constrained")
    for axis, (name, image) in zip(axes, images.items(), strict=True):
        error = np.mean((np.clip(image, 0, 1) - clean) ** 2)
        ratio = f", {-10 * np.log10(error):.1f} dB" if error > 0 else ""
        axis.imshow(image, cmap="gray", vmin=0, vmax=1)
        axis.set_title(name + ratio)
        axis.set_axis_off()
    plt.show()


# %%
# The noise's deviation is estimated from the finest differences.
restored = restore.denoise(noisy)
print(f"estimated: {255 * restore.estimate_sigma(noisy):.1f} grey levels of 255")
show(photograph=clean, noisy=noisy, restored=restored)

# %%
# Motion blur, a little noise: a point has become a line of 15 pixels.
kernel = np.eye(15) / 15
padded = np.pad(clean, 7, mode="reflect")
blurred = fftconvolve(padded, kernel, mode="valid") + 0.01 * rng.standard_normal(clean.shape)
sharp = restore.deblur(blurred, kernel, 0.01)
show(photograph=clean, blurred=blurred, restored=sharp)

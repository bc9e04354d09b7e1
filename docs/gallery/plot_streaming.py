"""
Patches that are never stored
=============================

A mixture is trained on patches of photographs in a folder. They are drawn anew on every pass, so that memory holds a
block of them, however many there are.
"""

# %%
# A folder with photographs: here the two that come with scikit-learn, cut into pieces.
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.exceptions import ConvergenceWarning

from convgmm import ConvGMM, plotting
from convgmm.datasets import Patches, load_sample_images

warnings.simplefilter("ignore", ConvergenceWarning)  # passes are counted here, not run to the end
folder = Path(tempfile.mkdtemp())
for i, photograph in enumerate(load_sample_images()):
    for j, piece in enumerate(np.array_split(photograph, 4, axis=1)):
        Image.fromarray(np.round(255 * piece).astype(np.uint8)).save(folder / f"{i}{j}.png")
paths = sorted(folder.glob("*.png"))
len(paths)

# %%
# A source of patches keeps the names alone.
patches = Patches(paths, (8, 8), 50_000, random_state=0)
unseen = next(iter(Patches(paths, (8, 8), 10_000, random_state=1)))

# %%
# Two ways to spend passes on them: EM, and one pass of mini-batches before it. A callback keeps what each pass is worth
# on patches that neither has seen.
scores = {}
for algorithm in ("em", "online"):
    scores[algorithm] = []

    def keep(iteration, scores=scores[algorithm]):
        scores.append(iteration.model.posterior(unseen.reshape(len(unseen), -1), 0)[1].mean())

    model = ConvGMM(16, algorithm=algorithm, tol=0, max_iter=8, random_state=0, callback=keep).fit(patches)

for algorithm, reached in scores.items():
    plt.plot(np.arange(len(reached)) + 1, reached, "o-", label=algorithm)
plt.xlabel("passes over the patches")
plt.ylabel("log-likelihood of unseen patches (nats)")
plt.legend()
plt.show()

# %%
plotting.plot_components(model, unseen)
plt.show()

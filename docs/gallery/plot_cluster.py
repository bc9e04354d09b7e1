"""
A mixture on a cluster
======================

Patches that are cut on the workers of a Dask cluster, and stay there: a pass over all of them is one task on each
worker, and only sums travel.
"""

import dask
import dask.array as da
import numpy as np
from dask.distributed import Client

from convgmm import ConvGMM, distributed, plotting
from convgmm.datasets import extract_patches, load_sample_images

# %%
# Here the cluster is two workers within this process; ``Client("scheduler:8786")`` would be another's.

client = Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=":0")
print("dashboard:", client.dashboard_link)

# %%
# Eight blocks of patches. None of them is ever in the memory of the client.

photographs = dask.delayed(load_sample_images)()
blocks = [
    da.from_delayed(
        dask.delayed(extract_patches)(photographs, (12, 12), 2_500, random_state=seed), (2_500, 12, 12), np.float32
    )
    for seed in range(8)
]
patches = da.concatenate(blocks).persist()
patches.shape, patches.numblocks

# %%
# The client finds itself. The start is drawn from some of the samples, by their place: neither the blocks nor the
# number of workers changes it.

model = distributed.fit(ConvGMM(9, tol=1e-2, random_state=0), patches)
model.n_iter_, model.lower_bound_

# %%

figure = plotting.plot_spectra(model, n_columns=9)

# %%
# Answers are lazy arrays.

labels = distributed.predict(model, patches)
np.bincount(labels.compute())

# %%

client.close()

"""
A mixture saved and served
==========================

What is trained in one place answers in another: models are files without pickle, and answer the same to the last bit.
"""

# %%
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import convgmm
from convgmm import ConvGMM, plotting
from convgmm.datasets import extract_patches, load_sample_images

china, flower = load_sample_images()
patches = extract_patches([china], (16, 16), 10_000, random_state=0)
model = ConvGMM(12, tol=1e-2, max_iter=200, random_state=0).fit(patches)

# %%
# ``save`` writes an archive of arrays with a header and a SHA-256 sum, beside the target, and moves it into place: an
# interrupt leaves what was there.
folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "china.npz"
model.save(path)
print(f"{path.stat().st_size / 1024:.0f} KiB, {len(model.weights_)} components of 16×16")

# %%
# Where it is served, ``convgmm.load`` gives whichever estimator is inside; a damaged file is refused.
served = convgmm.load(path)
new = extract_patches([flower], (16, 16), 2_000, random_state=1)
assert np.array_equal(served.predict_proba(new), model.predict_proba(new))

content = bytearray(path.read_bytes())
content[len(content) // 2] ^= 1
(damaged := path.with_name("damaged.npz")).write_bytes(content)
try:
    convgmm.load(damaged)
except ValueError as error:
    print(str(error).removeprefix(folder.name))

# %%
# What the model has prepared for one question it keeps for the next, so that asking about one patch costs one patch.
served.predict(new[:1])
started = time.perf_counter()
for patch in new[:200]:
    served.predict(patch[None])
print(f"{(time.perf_counter() - started) / 200 * 1e3:.2f} ms for a question about one patch")

# %%
# What does a model of one photograph say of another? The likelihood of every patch tells where it is surprised.
windows = np.lib.stride_tricks.sliding_window_view(flower, (16, 16))[::8, ::8]
surprise = -served.score_samples(
    np.ascontiguousarray(
        windows.reshape(-1, 16, 16)[:, :, :]
        + 1e-4 * np.random.default_rng(0).standard_normal((len(windows.reshape(-1, 256)), 16, 16)).astype(np.float32)
    )
)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.imshow(flower, cmap="gray")
left.set_axis_off()
picture = right.imshow(surprise.reshape(windows.shape[:2]), cmap="magma")
right.set_axis_off()
figure.colorbar(picture, label="−log p, nats a patch")
plt.show()

# %%
# A mixture can also be made of arrays that come from elsewhere; it can be asked, and trained further.
made = ConvGMM.from_parameters(model.weights_, model.spectra_)
assert np.array_equal(made.predict(new), model.predict(new))
plotting.plot_spectra(made)
plt.show()
folder.cleanup()

"""
One mixture per class
=====================

A mixture for each class of scikit-learn's digits, as power spectra and as full covariances; posteriors that can be
believed; and mixtures that are trained against one another.
"""

# %%
# Digits of 8×8 pixels, half of them to learn from.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from convgmm import ConvGMM, FullGMM, MixtureClassifier

X, y = load_digits(return_X_y=True)
images = X.reshape(-1, 8, 8) / 16
train, test = np.arange(len(y)) % 2 == 0, np.arange(len(y)) % 2 == 1

# %%
# The temperature is chosen on held-out training digits. At a temperature of 1 the same mixtures are as good at naming
# the class, and far too sure of it.
mixture = FullGMM(2, reg_covar=0.01, random_state=0)
classifier = MixtureClassifier(mixture).fit(images[train], y[train])
sure = MixtureClassifier(mixture, temperature=1.0).fit(images[train], y[train])


def log_loss(classifier):
    """Return the mean of −log P(class | digit) over the test digits, in nats."""
    return -classifier.predict_log_proba(images[test])[np.arange(test.sum()), y[test]].mean()


for name, each in (("chosen", classifier), ("1", sure)):
    print(f"temperature {name}: accuracy {each.score(images[test], y[test]):.3f}, log-loss {log_loss(each):.3f}")

# %%
# Digits drawn from the classes' mixtures.
classifier.set_params(random_state=0)
drawn, labels = classifier.sample(60)
figure, axes = plt.subplots(6, 10, figsize=(7, 4.5))
for place, image in zip(axes.flat, drawn[np.argsort(labels, kind="stable")], strict=True):
    place.imshow(image, cmap="gray")
    place.set_axis_off()

# %%
# Power spectra know nothing of where a stroke is. Each class's mixture is first fitted to its own digits; trained
# against one another they tell the classes apart better. The training ends when digits that are held out are not
# classified better any more.
mixture = ConvGMM(2, remove_mean=False, max_iter=15, tol=1e-2, random_state=0)
plain = MixtureClassifier(mixture).fit(images[train], y[train])
refined = MixtureClassifier(mixture, refine="mmi", validation_fraction=0.2).fit(images[train], y[train])
for name, each in (("by likelihood", plain), ("against one another", refined)):
    print(f"{name}: accuracy {each.score(images[test], y[test]):.3f}, log-loss {log_loss(each):.3f}")

figure, axes = plt.subplots(figsize=(5, 3))
axes.plot(refined.criterion_, marker=".")
axes.set_xlabel("round")
axes.set_ylabel("mean log P(class | digit), training")
figure.tight_layout()

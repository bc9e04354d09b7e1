"""
Pipelines and grid search
=========================

Mixtures are scikit-learn's estimators: features in a pipeline, with parameters chosen by cross-validation.
"""

# %%
# Posteriors of a mixture as features of a classifier, beside the pixels themselves.
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from convgmm import ConvGMM, FullGMM

X, y = load_digits(return_X_y=True)
train, test, train_y, test_y = train_test_split(X / 16, y, test_size=0.4, random_state=0, stratify=y)

# %%
# ``temperature`` softens posteriors, which would otherwise be 0 and 1 and say nothing but the component's number.
features = FullGMM(n_init=1, reg_covar=3e-3, tol=1e-2, max_iter=200, temperature=10, random_state=0)
pipeline = make_pipeline(features, LogisticRegression(max_iter=2_000, C=10))
search = GridSearchCV(
    pipeline,
    {"fullgmm__n_components": [5, 10, 20, 40], "fullgmm__temperature": [1, 10, 30]},
    cv=3,
).fit(train, train_y)
print(search.best_params_)
pixels = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2_000)).fit(train, train_y)
n_numbers = search.best_params_["fullgmm__n_components"]
print(f"accuracy on test digits {search.score(test, test_y):.3f} with {n_numbers} numbers a digit,")
print(f"{pixels.score(test, test_y):.3f} with all 64 pixels")

# %%
# How the choice depends on both.
scores = search.cv_results_["mean_test_score"].reshape(4, 3)
figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
for column, temperature in zip(scores.T, [1, 10, 30], strict=True):
    axis.plot([5, 10, 20, 40], column, marker="o", label=f"temperature {temperature}")
axis.set(xlabel="components", ylabel="accuracy in cross-validation", xticks=[5, 10, 20, 40])
axis.legend()
plt.show()

# %%
# A search without classes: ``score`` is the mean log-likelihood, so cross-validation compares densities. Flattened
# digits come with their shape, since scikit-learn's splits know two axes.
spectra = GridSearchCV(
    ConvGMM(patch_shape=(8, 8), remove_mean=False, reg_spectrum=1e-3, tol=1e-2, max_iter=200, random_state=0),
    {"n_components": [1, 4, 16, 64]},
    cv=3,
).fit(train)
for K, nats in zip([1, 4, 16, 64], spectra.cv_results_["mean_test_score"], strict=True):
    print(f"{K:2d} circulant components: {nats:6.2f} nats a digit held out")

# %%
# Names of features say where they come from, and ``set_output`` gives frames, as everywhere in scikit-learn.
print(spectra.best_estimator_.get_feature_names_out()[:3])

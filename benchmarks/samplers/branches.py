"""Real trainings whose parameters depend on a choice: kernel, kind of model, optimiser, features.

On scikit-learn's built-in data, some milliseconds to a tenth of a second each. In every one of them
a choice opens parameters of its own, and some branches are plateaus: an error rate of few test
points, or a model that most of its parameters do not change.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from benchmarks.samplers.problems import Half, Params, Trial
from benchmarks.samplers.trainings import log_loss_of, split_data, squared_error_of

HUGE_LOSS: Final = 1e6
"""What a training reports whose predictions are no numbers."""


def _suggest_svc(trial: Trial) -> Params:
    params: Params = {
        "C": trial.suggest_float("C", 1e-4, 1e3, log=True),
        "kernel": trial.suggest_categorical("kernel", ["linear", "rbf", "poly", "sigmoid"]),
    }
    if params["kernel"] != "linear":
        params["gamma"] = trial.suggest_float("gamma", 1e-6, 10.0, log=True)
    if params["kernel"] in ("poly", "sigmoid"):
        params["coef0"] = trial.suggest_float("coef0", -1.0, 1.0)
    if params["kernel"] == "poly":
        params["degree"] = trial.suggest_int("degree", 2, 5)
    return params


def _svc(name: str) -> Callable[[Params], float]:
    """Return the error rate of a support vector classifier: a step function with plateaus."""

    def compute(params: Params) -> float:
        from sklearn.svm import SVC

        train_x, test_x, train_y, test_y = split_data(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = SVC(max_iter=5_000, **params).fit(train_x, train_y)
        return float((model.predict(test_x) != test_y).mean())

    return compute


def _suggest_model(trial: Trial) -> Params:
    """Return a linear model, nearest neighbours, a forest or boosted trees, with its parameters."""
    model = trial.suggest_categorical("model", ["linear", "neighbours", "forest", "boosting"])
    params: Params = {"model": model}
    if model == "linear":
        params["alpha"] = trial.suggest_float("alpha", 1e-5, 1e3, log=True)
        params["l1_ratio"] = trial.suggest_float("l1_ratio", 0.0, 1.0)
    elif model == "neighbours":
        params["n_neighbors"] = trial.suggest_int("n_neighbors", 1, 60, log=True)
        params["p"] = trial.suggest_float("p", 1.0, 4.0)
        params["weights"] = trial.suggest_categorical("weights", ["uniform", "distance"])
    elif model == "forest":
        params["max_depth"] = trial.suggest_int("max_depth", 1, 16)
        params["max_features"] = trial.suggest_float("max_features", 0.05, 1.0)
        params["min_samples_leaf"] = trial.suggest_int("min_samples_leaf", 1, 30, log=True)
    else:
        params["learning_rate"] = trial.suggest_float("learning_rate", 1e-3, 1.0, log=True)
        params["n_estimators"] = trial.suggest_int("n_estimators", 5, 60, log=True)
        params["depth"] = trial.suggest_int("depth", 1, 5)
        params["subsample"] = trial.suggest_float("subsample", 0.3, 1.0)
    return params


def _regressor(params: Params) -> Any:
    from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
    from sklearn.linear_model import ElasticNet
    from sklearn.neighbors import KNeighborsRegressor

    own = {name: value for name, value in params.items() if name not in ("model", "depth")}
    if params["model"] == "linear":
        return ElasticNet(max_iter=2000, **own)
    if params["model"] == "neighbours":
        return KNeighborsRegressor(**own)
    if params["model"] == "forest":
        return RandomForestRegressor(n_estimators=20, random_state=0, **own)
    return GradientBoostingRegressor(max_depth=params["depth"], random_state=0, **own)


def _classifier(params: Params) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import SGDClassifier
    from sklearn.neighbors import KNeighborsClassifier

    own = {name: value for name, value in params.items() if name not in ("model", "depth")}
    if params["model"] == "linear":
        own["alpha"] *= 1e-2
        return SGDClassifier(loss="log_loss", penalty="elasticnet", random_state=0, **own)
    if params["model"] == "neighbours":
        return KNeighborsClassifier(**own)
    if params["model"] == "forest":
        return RandomForestClassifier(n_estimators=20, random_state=0, **own)
    return GradientBoostingClassifier(max_depth=params["depth"], random_state=0, **own)


def _model_of_diabetes(params: Params) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return squared_error_of("diabetes", lambda: _regressor(params))


def _model_of_cancer(params: Params) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return log_loss_of("breast_cancer", lambda: _classifier(params))


def _suggest_neighbours(trial: Trial) -> Params:
    """Return how the features are reduced, if at all, and the neighbours that vote."""
    params: Params = {"features": trial.suggest_categorical("features", ["all", "pca", "best"])}
    if params["features"] == "pca":
        params["components"] = trial.suggest_int("components", 1, 12)
        params["whiten"] = trial.suggest_categorical("whiten", [False, True])
    elif params["features"] == "best":
        params["k"] = trial.suggest_int("k", 1, 12)
    params["n_neighbors"] = trial.suggest_int("n_neighbors", 1, 60, log=True)
    params["metric"] = trial.suggest_categorical("metric", ["minkowski", "cosine"])
    if params["metric"] == "minkowski":
        params["p"] = trial.suggest_float("p", 1.0, 4.0)
    params["weights"] = trial.suggest_categorical("weights", ["uniform", "distance"])
    return params


def _neighbours_of_wine(params: Params) -> float:
    from sklearn.decomposition import PCA
    from sklearn.feature_selection import SelectKBest
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline

    own = {n: params[n] for n in ("n_neighbors", "metric", "p", "weights") if n in params}
    voters = KNeighborsClassifier(**own)

    def make() -> Any:
        if params["features"] == "pca":
            reduced = PCA(params["components"], whiten=params["whiten"], random_state=0)
            return make_pipeline(reduced, voters)
        if params["features"] == "best":
            return make_pipeline(SelectKBest(k=params["k"]), voters)
        return voters

    return log_loss_of("wine", make)


def _suggest_polynomial(trial: Trial) -> Params:
    """Return a linear model, on the features or on polynomials of the first few of them."""
    params: Params = {"features": trial.suggest_categorical("features", ["plain", "polynomial"])}
    if params["features"] == "polynomial":
        params["n_features"] = trial.suggest_int("n_features", 2, 10)
        params["degree"] = trial.suggest_int("degree", 2, 3)
    params["model"] = trial.suggest_categorical("model", ["ridge", "lasso", "huber"])
    params["alpha"] = trial.suggest_float("alpha", 1e-5, 1e4, log=True)
    if params["model"] == "huber":
        params["epsilon"] = trial.suggest_float("epsilon", 1.05, 3.0)
    return params


def _polynomial_of_diabetes(params: Params) -> float:
    from sklearn.linear_model import HuberRegressor, Lasso, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler

    def make() -> Any:
        if params["model"] == "ridge":
            model = Ridge(params["alpha"])
        elif params["model"] == "lasso":
            model = Lasso(params["alpha"], max_iter=300)
        else:
            model = HuberRegressor(alpha=params["alpha"], epsilon=params["epsilon"], max_iter=50)
        if params["features"] == "plain":
            return model
        count = params["n_features"]
        first = FunctionTransformer(lambda x: x[:, :count])
        powers = PolynomialFeatures(params["degree"], include_bias=False)
        return make_pipeline(first, powers, StandardScaler(), model)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = squared_error_of("diabetes", make)
    return value if math.isfinite(value) else HUGE_LOSS


def _suggest_network(trial: Trial) -> Params:
    """Return a network of one or two layers and one of two optimisers."""
    params: Params = {
        "optimiser": trial.suggest_categorical("optimiser", ["sgd", "adam"]),
        "dropout": trial.suggest_float("dropout", 0.0, 0.8),
        "activation": trial.suggest_categorical("activation", ["relu", "tanh"]),
        "batch": trial.suggest_int("batch", 8, 128, log=True),
    }
    if params["optimiser"] == "sgd":
        params["sgd_lr"] = trial.suggest_float("sgd_lr", 1e-4, 3.0, log=True)
        params["momentum"] = trial.suggest_float("momentum", 0.0, 0.99)
        params["nesterov"] = trial.suggest_categorical("nesterov", [False, True])
    else:
        params["adam_lr"] = trial.suggest_float("adam_lr", 1e-5, 1e-1, log=True)
        params["beta1"] = trial.suggest_float("beta1", 0.5, 0.99)
        params["decay"] = trial.suggest_float("decay", 1e-6, 1.0, log=True)
    layers = trial.suggest_int("layers", 1, 2)
    params["units"] = [trial.suggest_int(f"units{i}", 4, 64, log=True) for i in range(layers)]
    return params


def _network(name: str, epochs: int) -> Callable[[Params], float]:
    def compute(params: Params) -> float:
        import torch
        from torch import nn

        train_x, test_x, train_y, test_y = split_data(name)
        torch.set_num_threads(1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            inputs = torch.tensor(train_x, dtype=torch.float32)
            labels = torch.tensor(train_y)
            layers: list[nn.Module] = []
            width = inputs.shape[1]
            for units in params["units"]:
                shape = nn.ReLU() if params["activation"] == "relu" else nn.Tanh()
                layers += [nn.Linear(width, units), shape, nn.Dropout(params["dropout"])]
                width = units
            model = nn.Sequential(*layers, nn.Linear(width, int(labels.max()) + 1))
            optimiser = _optimiser(model, params)
            for _ in range(epochs):
                order: Any = torch.randperm(len(labels))
                for rows in order.split(params["batch"]):
                    optimiser.zero_grad()
                    batch: Any = nn.functional.cross_entropy(model(inputs[rows]), labels[rows])
                    batch.backward()
                    optimiser.step()
            model.eval()
            with torch.no_grad():
                logits = model(torch.tensor(test_x, dtype=torch.float32))
                loss = float(nn.functional.cross_entropy(logits, torch.tensor(test_y)))
        return loss if np.isfinite(loss) else HUGE_LOSS

    return compute


def _optimiser(model: Any, params: Params) -> Any:
    import torch

    if params["optimiser"] == "sgd":
        momentum = params["momentum"]
        nesterov = params["nesterov"] and momentum > 0
        return torch.optim.SGD(
            model.parameters(), lr=params["sgd_lr"], momentum=momentum, nesterov=nesterov
        )
    return torch.optim.AdamW(
        model.parameters(),
        lr=params["adam_lr"],
        betas=(params["beta1"], 0.999),
        weight_decay=params["decay"],
    )


BRANCHES: Final[list[tuple[str, Half, Callable[[Trial], Params], Callable[[Params], float]]]] = [
    ("svc-cancer", "tune", _suggest_svc, _svc("breast_cancer")),
    ("model-diabetes", "tune", _suggest_model, _model_of_diabetes),
    ("neighbours-wine", "tune", _suggest_neighbours, _neighbours_of_wine),
    ("network-wine", "tune", _suggest_network, _network("wine", 8)),
    ("svc-digits", "report", _suggest_svc, _svc("digits")),
    ("model-cancer", "report", _suggest_model, _model_of_cancer),
    ("polynomial-diabetes", "report", _suggest_polynomial, _polynomial_of_diabetes),
    ("network-digits", "report", _suggest_network, _network("digits", 8)),
]
"""Name, half of the suite, what it suggests and what it computes."""

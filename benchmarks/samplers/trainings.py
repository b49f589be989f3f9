"""Real trainings on scikit-learn's built-in data sets, a few to a hundred milliseconds each.

The optimum of a training is unknown. The least value that a long random search or any sampler ever
found stands in for it, less `MARGIN`, without which whoever found it would win by an endless ratio.
`python -m benchmarks.samplers reference FILES` prints the constants.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from benchmarks.samplers.problems import Family, Half, Params, Problem, Trial

REFERENCE: Final[dict[str, tuple[float, float]]] = {
    "mlp-wine": (0.035750821674851135, 0.7680734558583081),
    "gbm-diabetes": (0.510007266826234, 0.1656950651266088),
    "logistic-cancer": (0.06853932163939983, 0.16299954717932516),
    "mlp-digits": (0.07235479826024126, 1.3284718749753919),
    "svr-diabetes": (0.47407073155904583, 0.3162403071692244),
    "forest-wine": (0.07616243816016384, 0.16747708175751963),
    "svc-cancer": (0.013157894736842105, 0.09649122807017543),
    "model-diabetes": (0.47376281682850424, 0.0877925233215821),
    "neighbours-wine": (0.08106375578813887, 0.5375499480744429),
    "network-wine": (0.00965920090675354, 0.9433100521564484),
    "svc-digits": (0.005555555555555556, 0.3513888888888889),
    "model-cancer": (0.03793213120487547, 0.2018354124870927),
    "polynomial-diabetes": (0.4825359989484838, 0.11012592189890985),
    "network-digits": (0.0705169290304184, 1.9141129404306412),
}
"""Name to the least value found and to the median of random points above it."""
MARGIN: Final = 0.01
"""Distance of the supposed optimum below the least value found, in units of the scale."""


@lru_cache(maxsize=8)
def split_data(name: str) -> tuple[Any, Any, Any, Any]:
    """Return scaled features and targets of a data set: to train on, to test on."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    x, y = x[:900], y[:900]
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.4, random_state=0)
    scaler = StandardScaler().fit(train_x)
    return scaler.transform(train_x), scaler.transform(test_x), train_y, test_y


def log_loss_of(name: str, make: Callable[[], Any]) -> float:
    """Return the log loss of a classifier on the test points of a data set."""
    from sklearn.metrics import log_loss

    train_x, test_x, train_y, test_y = split_data(name)
    model = make().fit(train_x, train_y)
    return float(log_loss(test_y, model.predict_proba(test_x), labels=model.classes_))


def squared_error_of(name: str, make: Callable[[], Any]) -> float:
    """Return the squared error of a regression, in deviations of the target."""
    train_x, test_x, train_y, test_y = split_data(name)
    scale = float(train_y.std())
    model = make().fit(train_x, train_y / scale)
    return float(((model.predict(test_x) - test_y / scale) ** 2).mean())


def _suggest_mlp(trial: Trial) -> Params:
    params: Params = {
        "learning_rate_init": trial.suggest_float("learning_rate_init", 1e-4, 1e-1, log=True),
        "alpha": trial.suggest_float("alpha", 1e-6, 1.0, log=True),
        "batch_size": trial.suggest_int("batch_size", 8, 128, log=True),
        "activation": trial.suggest_categorical("activation", ["relu", "tanh", "logistic"]),
        "max_iter": trial.suggest_int("max_iter", 4, 24),
        "solver": trial.suggest_categorical("solver", ["adam", "sgd"]),
    }
    if params["solver"] == "sgd":
        params["momentum"] = trial.suggest_float("momentum", 0.0, 0.99)
    layers = trial.suggest_int("layers", 1, 2)
    params["hidden_layer_sizes"] = tuple(
        trial.suggest_int(f"units{i}", 4, 64, log=True) for i in range(layers)
    )
    return params


def _mlp(name: str) -> Callable[[Params], float]:
    def compute(params: Params) -> float:
        import warnings

        from sklearn.neural_network import MLPClassifier

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return log_loss_of(name, lambda: MLPClassifier(random_state=0, **params))

    return compute


def _suggest_svr(trial: Trial) -> Params:
    params: Params = {
        "C": trial.suggest_float("C", 1e-3, 1e3, log=True),
        "epsilon": trial.suggest_float("epsilon", 1e-3, 1.0, log=True),
        "kernel": trial.suggest_categorical("kernel", ["rbf", "poly", "sigmoid"]),
        "gamma": trial.suggest_float("gamma", 1e-5, 10.0, log=True),
    }
    if params["kernel"] != "rbf":
        params["coef0"] = trial.suggest_float("coef0", -1.0, 1.0)
    if params["kernel"] == "poly":
        params["degree"] = trial.suggest_int("degree", 2, 4)
    return params


def _svr(params: Params) -> float:
    import warnings

    import numpy as np
    from sklearn.svm import SVR

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = squared_error_of("diabetes", lambda: SVR(max_iter=20_000, **params))
    return value if np.isfinite(value) else 1e6


def _suggest_logistic(trial: Trial) -> Params:
    return {
        "C": trial.suggest_float("C", 1e-4, 1e3, log=True),
        "l1_ratio": float(trial.suggest_categorical("l1", [0, 1])),
        "intercept_scaling": trial.suggest_float("intercept_scaling", 0.1, 10.0, log=True),
        "tol": trial.suggest_float("tol", 1e-6, 1e-1, log=True),
        "fit_intercept": trial.suggest_categorical("fit_intercept", [True, False]),
    }


def _logistic(params: Params) -> float:
    import warnings

    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return log_loss_of(
            "breast_cancer",
            lambda: LogisticRegression(solver="liblinear", random_state=0, **params),
        )


def _suggest_gbm(trial: Trial) -> Params:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-3, 1.0, log=True),
        "n_estimators": trial.suggest_int("n_estimators", 5, 80, log=True),
        "max_depth": trial.suggest_int("max_depth", 1, 6),
        "subsample": trial.suggest_float("subsample", 0.3, 1.0),
        "max_features": trial.suggest_float("max_features", 0.1, 1.0),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, 40, log=True),
        "loss": trial.suggest_categorical("loss", ["squared_error", "absolute_error", "huber"]),
    }


def _gbm(params: Params) -> float:
    from sklearn.ensemble import GradientBoostingRegressor

    return squared_error_of("diabetes", lambda: GradientBoostingRegressor(random_state=0, **params))


def _suggest_forest(trial: Trial) -> Params:
    return {
        "n_estimators": trial.suggest_int("n_estimators", 4, 40),
        "max_depth": trial.suggest_int("max_depth", 1, 16),
        "max_features": trial.suggest_float("max_features", 0.05, 1.0),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, 30, log=True),
        "criterion": trial.suggest_categorical("criterion", ["gini", "entropy"]),
        "bootstrap": trial.suggest_categorical("bootstrap", [True, False]),
    }


def _forest(params: Params) -> float:
    from sklearn.ensemble import RandomForestClassifier

    return log_loss_of("wine", lambda: RandomForestClassifier(random_state=0, **params))


def trainings() -> dict[str, Problem]:
    """Return the real trainings by name."""
    from benchmarks.samplers.branches import BRANCHES

    rows: list[tuple[str, Half, Callable[[Trial], Params], Callable[[Params], float]]] = [
        ("mlp-wine", "tune", _suggest_mlp, _mlp("wine")),
        ("gbm-diabetes", "tune", _suggest_gbm, _gbm),
        ("logistic-cancer", "tune", _suggest_logistic, _logistic),
        ("mlp-digits", "report", _suggest_mlp, _mlp("digits")),
        ("svr-diabetes", "report", _suggest_svr, _svr),
        ("forest-wine", "report", _suggest_forest, _forest),
    ]
    plain = {row[0]: _problem("sklearn", *row) for row in rows}
    return plain | {row[0]: _problem("branches", *row) for row in BRANCHES}


def _problem(
    family: Family,
    name: str,
    half: Half,
    suggest: Callable[[Trial], Params],
    compute: Callable[[Params], float],
) -> Problem:
    least, scale = REFERENCE[name]
    optimum = least - MARGIN * scale
    return Problem(name, family, half, suggest, compute, optimum, known_scale=scale)

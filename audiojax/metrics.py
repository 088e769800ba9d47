"""Scores of a split: pure functions of probabilities and labels, by scikit-learn where it has the metric."""

import math
import warnings

import numpy as np
import scipy.stats
import sklearn.metrics

LOWER_IS_BETTER = {"loss"}


def summary(score_NK: np.ndarray, label: np.ndarray, loss_N: np.ndarray) -> dict[str, float]:
    """All scalar metrics of one replica on one split.

    Args:
      score_NK: probabilities. label: int [N], or multi-hot [N, K]. loss_N: loss of each example.

    Returns:
      loss, mAP, mAUC and d_prime (macro, over the classes for which they are defined: mAP wants a positive example,
      mAUC a negative one too), and for single labels accuracy, top3, top5, macro_f1, map_at_3.
    """
    hot_NK = label if label.ndim == 2 else np.eye(score_NK.shape[1], dtype=np.uint8)[label]
    positive = hot_NK.any(0)
    ranked = positive & ~hot_NK.all(0)
    values = {"loss": float(np.mean(loss_N, dtype=np.float64))}
    if label.ndim == 1:
        values |= single_label(score_NK, label)
    values["mAP"] = float(
        sklearn.metrics.average_precision_score(hot_NK[:, positive], score_NK[:, positive], average="macro")
    )
    mean_auc = (
        float(sklearn.metrics.roc_auc_score(hot_NK[:, ranked], score_NK[:, ranked], average="macro"))
        if ranked.any()
        else math.nan
    )
    return values | {"mAUC": mean_auc, "d_prime": d_prime(mean_auc)}


def single_label(score_NK: np.ndarray, label_N: np.ndarray) -> dict[str, float]:
    """accuracy, top3, top5, macro_f1 and map_at_3 of single-label scores."""
    classes = np.arange(score_NK.shape[1])
    chosen_N = score_NK.argmax(1)

    def top(k: int) -> float:
        with warnings.catch_warnings():
            # With k classes or fewer every answer is right, which is what the score then says.
            warnings.simplefilter("ignore", sklearn.exceptions.UndefinedMetricWarning)
            return float(sklearn.metrics.top_k_accuracy_score(label_N, score_NK, k=k, labels=classes)) if len(classes) > 2 else 1.0

    return {
        "accuracy": float(sklearn.metrics.accuracy_score(label_N, chosen_N)),
        "top3": top(3),
        "top5": top(5),
        "macro_f1": float(sklearn.metrics.f1_score(label_N, chosen_N, average="macro", zero_division=0)),
        "map_at_3": map_at_3(score_NK, label_N),
    }


def map_at_3(score_NK: np.ndarray, label_N: np.ndarray) -> float:
    """Mean of 1, 1/2 or 1/3 for the right class in first, second or third place, as FSDKaggle2018 was judged."""
    best_N3 = np.argsort(-score_NK, axis=1, kind="stable")[:, :3]
    hits_N3 = best_N3 == label_N[:, None]
    return float((hits_N3 / np.arange(1, hits_N3.shape[1] + 1)).sum(1).mean())


def d_prime(mean_auc: float) -> float:
    """Separation of two unit-variance Gaussians that would give this AUC (Hershey et al. 2017)."""
    return float(math.sqrt(2) * scipy.stats.norm.ppf(mean_auc))


def per_class(score_NK: np.ndarray, label: np.ndarray, classes: list[str]) -> dict:
    """What each class scores: for single labels precision, recall, f1, support and the confusion matrix (rows: truth),
    for several labels average precision, AUC and support; None where undefined."""
    if label.ndim == 1:
        chosen, numbers = score_NK.argmax(1), np.arange(len(classes))
        columns = sklearn.metrics.precision_recall_fscore_support(label, chosen, labels=numbers, zero_division=0)
        named = dict(zip(("precision", "recall", "f1", "support"), (column.tolist() for column in columns)))
        return named | {"confusion": sklearn.metrics.confusion_matrix(label, chosen, labels=numbers).tolist()}
    support = label.sum(0)
    defined = (support > 0) & (support < len(label))

    def by_class(metric) -> list[float | None]:
        return [float(metric(label[:, k], score_NK[:, k])) if defined[k] else None for k in range(len(classes))]

    return {
        "average_precision": by_class(sklearn.metrics.average_precision_score),
        "auc": by_class(sklearn.metrics.roc_auc_score),
        "support": support.tolist(),
    }

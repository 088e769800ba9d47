"""Scores of a split: pure functions of probabilities and labels, by scikit-learn where it has the metric."""

import math

import numpy as np
import scipy.stats
import sklearn.metrics

LOWER_IS_BETTER = {"loss"}


def by_class(score_NK: np.ndarray, label: np.ndarray) -> dict[str, np.ndarray]:
    """What each class scores; NaN where a class has no positive example, or (AUC) no negative one.

    Args:
      score_NK: probabilities. label: int [N], or multi-hot [N, K].

    Returns:
      average_precision, auc and support, each [K]; for single labels also precision, recall and f1 [K], and confusion
      [K, K], rows the truth.
    """
    hot_NK = label if label.ndim == 2 else np.eye(score_NK.shape[1], dtype=np.uint8)[label]
    support_K = hot_NK.sum(0, dtype=np.int64)
    positive_K = support_K > 0
    mixed_K = positive_K & (support_K < len(label))
    average_precision_K = np.full(score_NK.shape[1], np.nan)
    auc_K = average_precision_K.copy()
    # A class at a time on contiguous columns: five times faster than scikit-learn's own loop over many classes.
    hot_KN, score_KN = np.ascontiguousarray(hot_NK.T), np.ascontiguousarray(score_NK.T)
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        for k in np.flatnonzero(positive_K):
            average_precision_K[k] = sklearn.metrics.average_precision_score(hot_KN[k], score_KN[k])
        for k in np.flatnonzero(mixed_K):
            auc_K[k] = sklearn.metrics.roc_auc_score(hot_KN[k], score_KN[k])
    classes = {"average_precision": average_precision_K, "auc": auc_K, "support": support_K}
    if label.ndim == 1:
        chosen, numbers = score_NK.argmax(1), np.arange(score_NK.shape[1])
        columns = sklearn.metrics.precision_recall_fscore_support(label, chosen, labels=numbers, zero_division=0)
        classes |= dict(zip(("precision", "recall", "f1"), columns[:3]))
        classes["confusion"] = sklearn.metrics.confusion_matrix(label, chosen, labels=numbers)
    return classes


def summary(score_NK: np.ndarray, label: np.ndarray, loss_N: np.ndarray, classes: dict) -> dict[str, float]:
    """All scalar metrics of one replica on one split.

    Args:
      score_NK, label: as for `by_class`, whose result is `classes`. loss_N: loss of each example.

    Returns:
      loss, mAP, mAUC and d_prime (means over the classes for which they are defined), and for single labels accuracy,
      top3, top5, macro_f1 (over the classes that occur) and map_at_3.
    """
    values = {"loss": float(np.mean(loss_N, dtype=np.float64))}
    if label.ndim == 1:
        values |= single_label(score_NK, label)
        values["macro_f1"] = float(classes["f1"][classes["support"] > 0].mean())
    values["mAP"] = float(np.nanmean(classes["average_precision"]))
    auc_K = classes["auc"]
    values["mAUC"] = math.nan if np.isnan(auc_K).all() else float(np.nanmean(auc_K))
    return values | {"d_prime": d_prime(values["mAUC"])}


def single_label(score_NK: np.ndarray, label_N: np.ndarray) -> dict[str, float]:
    """accuracy, top3, top5 and map_at_3 of single-label scores."""
    numbers = np.arange(score_NK.shape[1])

    def top(k: int) -> float:
        if k >= len(numbers):
            return 1.0
        return float(sklearn.metrics.top_k_accuracy_score(label_N, score_NK, k=k, labels=numbers))

    return {
        "accuracy": float(sklearn.metrics.accuracy_score(label_N, score_NK.argmax(1))),
        "top3": top(3),
        "top5": top(5),
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

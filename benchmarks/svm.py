"""What MFCC statistics and a support-vector machine reach: python -m benchmarks.svm CONFIG:ROW --data_dir=DIR.

The reference for the honest rows: on the same cuts of the same data, from scikit-learn and librosa alone. The config's
windows are described by mean and deviation over time of 20 coefficients and their first derivatives; a clip gets the
class whose decision values are highest in the mean of its windows. Nothing is tuned (C is 10, gamma scikit-learn's
default), so the validation clips train too.
"""

import argparse
import importlib
import pathlib

import librosa
import numpy as np
import sklearn.pipeline
import sklearn.preprocessing
import sklearn.svm

from audiojax import metrics
from audiojax.data import prepared, protocol


def describe(audio: np.ndarray, rate_hz: int) -> np.ndarray:
    mfcc = librosa.feature.mfcc(y=audio.astype(np.float32) / 32768, sr=rate_hz, n_mfcc=20)
    both = np.concatenate([mfcc, librosa.feature.delta(mfcc)])
    return np.concatenate([both.mean(1), both.std(1)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="configs/STUDY.py:ROW")
    parser.add_argument("--data_dir", type=pathlib.Path, default=prepared.default_data_dir())
    parser.add_argument("--protocol", default="honest")
    parser.add_argument("--splits", type=int, default=5, help="cuts of the data, by the split seeds from 0 on")
    arguments = parser.parse_args()
    study, row = pathlib.PurePath(arguments.config).name.split(".py:")
    config = importlib.import_module(f"configs.{study}").get_config(row)
    data = prepared.find(config.data.name, config.data.variant, arguments.data_dir)
    described, accuracies = {}, []  # of windows and of clips
    for seed in range(arguments.splits):
        with config.unlocked():
            config.data.split_seed = seed
        parts, *_ = protocol.make_parts(data, config.data.protocols[arguments.protocol], config.data)
        x, y = {}, {}
        for name, part in parts.items():
            windows = list(zip([part.split] * len(part.id), part.start, part.length))
            for split, start, length in set(windows) - described.keys():
                audio = data.inputs(split)[start : start + length]
                described[split, start, length] = describe(audio, data.sample_rate_hz)
            x[name], y[name] = np.array([described[window] for window in windows]), part.label
        svm = sklearn.pipeline.make_pipeline(sklearn.preprocessing.StandardScaler(), sklearn.svm.SVC(C=10))
        svm.fit(*(np.concatenate([values["train"], values["valid"]]) for values in (x, y)))
        test, decision = parts["test"], svm.decision_function(x["test"])
        of_windows = (decision.argmax(1) == test.label).mean()
        first, decision, _ = metrics.pool(test.id, decision, decision[:, 0]) or (slice(None), decision, None)
        accuracies.append((of_windows, (decision.argmax(1) == test.label[first]).mean()))
        print(
            f"split seed {seed}: test accuracy {accuracies[-1][0]:.3f} of {len(test.id)} windows,"
            f" {accuracies[-1][1]:.3f} of {len(decision)} clips"
        )
    for unit, values in zip(("windows", "clips"), zip(*accuracies)):
        print(
            f"{unit}: mean {np.mean(values):.3f}, standard deviation {np.std(values, ddof=min(1, len(values) - 1)):.3f}"
        )


if __name__ == "__main__":
    main()

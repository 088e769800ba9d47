"""A row of Li's study by another framework: python -m third_party.train FRAMEWORK ROW --data_dir=DIR [--epochs=10].

The same clips, network, loss and scores as launch.py's, trained as users of PyTorch and Keras do: whole runs for
benchmarks/frameworks.py to compare with. Batches of 64 and plain Adam at 0.001, as in the study's figure 3. The last
line printed is JSON, the seconds that went into each part of the run; the first step is compilation.
"""

import argparse
import json
import os
import pathlib
import time
from collections.abc import Callable

import numpy as np

from audiojax import metrics
from audiojax.data import prepared, protocol
from configs import li_audioset

FRAMEWORKS = ("pytorch", "pytorch-compiled", "keras-tensorflow", "keras-jax")
BATCH_SIZE, LR = 64, 1e-3


def read(config, data_dir: pathlib.Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of train, valid and test the features, float32 [N, T, F], and the labels, float32 [N, classes]."""
    data = prepared.find(config.data.name, config.data.variant, data_dir)
    if data is None:
        raise SystemExit(f"{config.data.name} is not prepared in {data_dir}; launch.py prepares it.")
    parts, *_ = protocol.make_parts(data, config.data.protocols[config.protocol], config.data)
    low, high = config.frontend.low, config.frontend.high
    arrays = {}
    for name, part in parts.items():
        inputs = data.inputs(part.split)
        x = np.zeros((len(part.id), part.steps, inputs.shape[1]), np.float32)
        for row, start, length in zip(x, part.start, part.length):
            row[:length] = low + (high - low) / 255 * inputs[start : start + length]
        arrays[name] = x, part.label.astype(np.float32)
    return arrays


def stopwatch() -> tuple[dict[str, float], Callable]:
    """Seconds by what they went into, and the call that enters those since its last call."""
    time_s, last_s = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal last_s
        now_s = time.perf_counter()
        time_s[name], last_s = now_s - last_s, now_s

    return time_s, lap


def by_pytorch(
    model: dict, loss: str, epochs: int, arrays: dict, compiled: bool, lap: Callable
) -> dict[str, np.ndarray]:
    """Logits of every part after the training."""
    import torch

    from third_party import pytorch

    device = pytorch.device()
    x, label = (torch.from_numpy(values).to(device) for values in arrays["train"])
    network = pytorch.build(model, x.shape[1:], label.shape[1]).to(device)
    network = torch.compile(network) if compiled else network
    step = pytorch.trainer(network.train(), loss, LR)

    def finish(phase: str) -> None:
        if device == "cuda":
            torch.cuda.synchronize()
        lap(phase)

    finish("start")
    for epoch in range(epochs):
        for number, rows in enumerate(torch.randperm(len(x), device=device).split(BATCH_SIZE)):
            step(x[rows], label[rows])
            if epoch == number == 0:
                finish("compilation")
    finish("steps")
    network.eval()
    with torch.no_grad():
        batches = lambda x: torch.from_numpy(x).to(device).split(1024)
        return {name: torch.cat([network(b) for b in batches(x)]).cpu().numpy() for name, (x, _) in arrays.items()}


def by_keras(model: dict, loss: str, epochs: int, arrays: dict, backend: str, lap: Callable) -> dict[str, np.ndarray]:
    """Logits of every part after the training."""
    os.environ["KERAS_BACKEND"] = backend
    from keras.callbacks import LambdaCallback

    from third_party import keras

    x, label = arrays["train"]
    network = keras.build(model, x.shape[1:], label.shape[1])
    network = keras.prepare(network, loss, LR)
    lap("start")
    # The first batch's call ends here; those after it find nothing to end.
    first = iter(["compilation"])
    watch = LambdaCallback(on_train_batch_end=lambda batch, logs: [lap(name) for name in first])
    network.fit(x, label, BATCH_SIZE, epochs, verbose=0, callbacks=[watch])
    lap("steps")
    return {name: network.predict(x, 1024, verbose=0) for name, (x, _) in arrays.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("framework", choices=FRAMEWORKS)
    parser.add_argument("row", choices=li_audioset.ROWS)
    parser.add_argument("--data_dir", type=pathlib.Path, default=prepared.default_data_dir())
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--valid_fraction", type=float, default=0.05, help="of the training clips")
    arguments = parser.parse_args()
    config = li_audioset.get_config(arguments.row)
    config.data.protocols.honest.valid_fraction = arguments.valid_fraction
    time_s, lap = stopwatch()
    arrays = read(config, arguments.data_dir)
    lap("input")
    framework, _, kind = arguments.framework.partition("-")
    train = by_pytorch if framework == "pytorch" else by_keras
    how = kind == "compiled" if framework == "pytorch" else kind
    logits = train(config.model.to_dict(), config.task.loss, arguments.epochs, arrays, how, lap)
    for name, (_, label) in arrays.items():
        score, hot = 1 / (1 + np.exp(-logits[name])), label.astype(np.uint8)
        scores = metrics.summary(score, hot, np.zeros(len(hot)), metrics.by_class(score, hot))
        print(f"{name}: mAP {scores['mAP']:.4f}, mAUC {scores['mAUC']:.4f}")
    lap("scores")
    print(json.dumps(time_s))


if __name__ == "__main__":
    main()

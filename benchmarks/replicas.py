"""n seeds in one program against n runs one after the other: python -m benchmarks.replicas [--quick].

Whole train steps (front end, augmentation, network, optimiser) of a small and a large network of fagan's study, batch
32 of noise a replica, memory kept as launch.py does. Ratios are n times the step of one replica over the step of n.
"""

import argparse

import jax
import numpy as np

from audiojax import mesh, process
from audiojax.tasks.supervised import Task
from benchmarks.common import measure, report
from configs import fagan_gtzan

CASES = {"small": "cnn1d_gap", "large": "vgg16"}
SAMPLES, GENRES = 66_150, 10


def step_of(row: str, replicas: int):
    """A call that trains `replicas` replicas by one step and waits for it."""
    config = fagan_gtzan.get_config(row)
    task = Task(config, np.full(GENRES, 1 / GENRES), total_steps=1000)
    rng = np.random.default_rng(0)
    batch = {
        "input": rng.integers(-3000, 3000, (replicas, config.batch_size, SAMPLES)).astype(np.int16),
        "length": np.full((replicas, config.batch_size), SAMPLES, np.int32),
        "label": rng.integers(0, GENRES, (replicas, config.batch_size)).astype(np.int32),
        "weight": np.ones((replicas, config.batch_size), np.float32),
    }
    keys = jax.vmap(jax.random.key)(np.arange(replicas))
    batch, one = jax.device_put(batch), {name: values[0] for name, values in batch.items()}
    state = jax.jit(mesh.over_replicas(lambda key: task.init(key, {}, one), replicas))(keys)
    train = jax.jit(mesh.over_replicas(task.train_step, replicas), donate_argnums=0)

    def step():
        nonlocal state
        state, logs = train(state, batch, keys)
        jax.block_until_ready(logs)

    return step


def main() -> None:
    process.restart_with_malloc_set()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the small network alone, fewer rounds")
    quick = parser.parse_args().quick
    ratios, figures = {}, {}
    for case, row in CASES.items():
        if quick and case != "small":
            continue
        counts = (1, 2, 4, 8)
        seconds = measure({str(n): step_of(row, n) for n in counts}, rounds=3 if quick else 11)
        figures |= {f"{case} ({row}), {n} replicas, ms a step": 1e3 * seconds[str(n)] for n in counts}
        ratios |= {f"{case}, {n} replicas / {n} runs": n * seconds["1"] / seconds[str(n)] for n in counts[1:]}
    report("replicas", ratios, figures)


if __name__ == "__main__":
    main()

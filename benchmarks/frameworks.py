"""One train step of our networks and of their PyTorch twins: python -m benchmarks.frameworks [--quick] [--rows=a,b].

Forward pass, loss, gradients, Adam, on features of noise in the row's own shapes and batch size; float32. Front ends
and augmentation are left out. Both run with the huge pages that launch.py asks for.
"""

import argparse
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from audiojax import command_line, frontend, losses
from audiojax.tasks import supervised
from benchmarks.common import installed, measure, report

CLIPS = {  # one clip as the data set stores it, and how many classes it has
    "li_audioset": (np.zeros((1, 10, 128), np.uint8), 527),
    "beyond_audioset": (np.zeros((1, 10, 128), np.uint8), 527),
    "rit_nsynth": (np.zeros((1, 64_000), np.int16), 10),
    "fagan_gtzan": (np.zeros((1, 66_150), np.int16), 10),
    "ntu_freesound": (np.zeros((1, 88_200), np.int16), 41),
}
QUICK = ("fc1", "lstm", "cnn1d_gap")
LR = 1e-3


def batch_of(config, clip: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Features [B, ...] of noise, and labels as the row's loss takes them."""
    features = supervised.named(frontend, "frontend", config.frontend)
    shape = jax.eval_shape(features, clip, np.array([clip.shape[1]])).shape[1:]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((config.batch_size, *shape), np.float32)
    if config.task.loss == "sigmoid_cross_entropy":
        return x, (rng.random((config.batch_size, classes)) < 0.01).astype(np.float32)
    return x, rng.integers(0, classes, config.batch_size)


def ours(config, x: np.ndarray, label: np.ndarray, classes: int):
    """A call that trains our network by a step and waits for it, and the network's variables before the first."""
    model = supervised.build_model(config, np.zeros(classes))
    loss_of, optimiser = getattr(losses, config.task.loss), optax.adam(LR)
    variables = jax.jit(lambda key: model.init(key, x[:1], train=False))(jax.random.key(0))
    params, rest = variables["params"], {name: tree for name, tree in variables.items() if name != "params"}

    def train(state, key, x, label):
        params, rest, moments = state

        def mean_loss(params):
            variables, rngs = {"params": params} | rest, {"dropout": key}
            logits, updated = model.apply(variables, x, train=True, rngs=rngs, mutable=list(rest))
            return loss_of(logits, label).mean(), updated

        gradient, rest = jax.grad(mean_loss, has_aux=True)(params)
        updates, moments = optimiser.update(gradient, moments)
        return optax.apply_updates(params, updates), rest, moments

    compiled = jax.jit(train, donate_argnums=0)
    state = jax.tree.map(jnp.array, (params, rest, optimiser.init(params)))
    x, label, key = jnp.asarray(x), jnp.asarray(label), jax.random.key(1)

    def step():
        nonlocal state
        state = jax.block_until_ready(compiled(state, key, x, label))

    return step, jax.device_get(variables)


def pytorch(config, x: np.ndarray, label: np.ndarray, classes: int, variables: dict):
    """A call that trains the twin by a step, eagerly."""
    import torch

    from third_party import pytorch as twins

    network = twins.build(config.model, x.shape[1:], classes).train()
    twins.load(network, variables["params"], variables.get("batch_stats", {}))
    optimiser = torch.optim.Adam(network.parameters(), LR)
    x, label = torch.from_numpy(x), torch.from_numpy(label)
    several = config.task.loss == "sigmoid_cross_entropy"
    binary, single = torch.nn.functional.binary_cross_entropy_with_logits, torch.nn.functional.cross_entropy

    def step():
        logits = network(x)
        loss = binary(logits, label, reduction="sum") / len(x) if several else single(logits, label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def main() -> None:
    command_line.restart_with_huge_pages()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"the rows {', '.join(QUICK)} alone, fewer rounds")
    parser.add_argument("--rows", default="", help="these rows alone, of any study")
    args = parser.parse_args()
    if not installed("torch"):
        return
    chosen = args.rows.split(",") if args.rows else QUICK if args.quick else None
    ratios, figures = {}, {}
    for study, (clip, classes) in CLIPS.items():
        for row in importlib.import_module(f"configs.{study}").ROWS:
            if chosen and row not in chosen:
                continue
            config = importlib.import_module(f"configs.{study}").get_config(row)
            x, label = batch_of(config, clip, classes)
            step, variables = ours(config, x, label, classes)
            contenders = {"audiojax": step, "PyTorch": pytorch(config, x, label, classes, variables)}
            seconds = measure(contenders, rounds=5 if args.quick else 15)
            figures |= {f"{study}:{row}, {name}, ms a step": 1e3 * s for name, s in seconds.items()}
            ratios[f"{study}:{row} / PyTorch"] = seconds["PyTorch"] / seconds["audiojax"]
            print(f"{study}:{row}: {ratios[f'{study}:{row} / PyTorch']:.2f} x", flush=True)
            jax.clear_caches()
    report("frameworks", ratios, figures)


if __name__ == "__main__":
    main()

"""Our networks and their twins in PyTorch and Keras 3: python -m benchmarks.frameworks [--quick] [--rows=a,b].

One train step: forward pass, loss, gradients, Adam, on features of noise in the row's own shapes and batch size;
float32. Front ends and augmentation are left out. Every framework has a process of its own, which keeps memory as
launch.py does, and they take turns, of as many steps as take a tenth of a second.

With --runs whole runs of rows of Li's study, on real data prepared in --data_dir: the study's ten epochs, batches of
64, from the command to the scores of all splits; frameworks take turns, three each. What goes into the start
(interpreter, imports, network, whatever is left), reading the data, compilation (ours finds in its cache what an
earlier run has compiled; of others the first step), the other steps and the scores is told apart, with --chart=FILE
also drawn.
"""

import argparse
import functools
import importlib
import json
import math
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from audiojax import process
from benchmarks.common import installed, measure, report
from third_party.train import FRAMEWORKS

CLIPS = {  # one clip as the data set stores it, and how many classes it has
    "li_audioset": (np.zeros((1, 10, 128), np.uint8), 527),
    "beyond_audioset": (np.zeros((1, 10, 128), np.uint8), 527),
    "rit_nsynth": (np.zeros((1, 64_000), np.int16), 10),
    "fagan_gtzan": (np.zeros((1, 66_150), np.int16), 10),
    "ntu_freesound": (np.zeros((1, 88_200), np.int16), 41),
    "wang_gtzan": (np.zeros((1, 661_500), np.int16), 10),
}
PHASES = ("start", "input", "compilation", "steps", "scores")  # of a whole run
QUICK = ("fc1", "lstm", "cnn1d_gap")
LR = 1e-3
RUN = ("--config.batch_size=64", "--config.optim.lr=0.001")
AS_THE_PEERS = (
    *("--config.optim.schedule=constant", "--config.optim.warmup=0.0", "--config.optim.clip_norm=0.0"),
    *("--config.optim.average_share=0.0", "--config.augment.features=()", "--config.task.prior_bias=False"),
    "--config.task.positive_weight=1.0",
)


def batch_of(config, clip: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Features [B, ...] of noise, and labels as the row's loss takes them; of an autoencoder the features again."""
    import jax

    from audiojax import names

    features = names.function("frontend", "frontend", config.frontend)
    if config.study == "wang_gtzan" and config.data.segment.seconds:
        clip = clip[:, : round(config.data.segment.seconds * 22_050)]
    shape = jax.eval_shape(features, clip, np.array([clip.shape[1]])).shape[1:]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((config.batch_size, *shape), np.float32)
    match config.task.loss:
        case "mean_squared_error":
            return x, x
        case "sigmoid_cross_entropy":
            return x, (rng.random((config.batch_size, classes)) < 0.01).astype(np.float32)
        case _:
            return x, rng.integers(0, classes, config.batch_size)


def variables_of(config, x: np.ndarray, classes: int) -> dict:
    """Variables of our network before the first step, by collection."""
    import jax

    inputs = (x[:1], np.zeros(1, int)) if config.task.name == "gan" else (x[:1],)
    model = model_of(config, classes)
    return jax.device_get(jax.jit(lambda key: model.init(key, *inputs, train=False))(jax.random.key(0)))


def model_of(config, classes: int):
    """Our network of a row, a classifier's with output biases of 0."""
    from audiojax.tasks import network

    if config.task.name == "gan":
        return network.build_model(config, classes=classes)
    return network.build_model(config, np.zeros(classes) if config.task.name == "supervised" else None)


def by_audiojax(config, x: np.ndarray, label: np.ndarray, classes: int, variables: dict):
    """A call that trains our network by so many steps and waits for the last; the row's devices share the batch."""
    import jax
    import optax

    from audiojax import losses, mesh
    from audiojax.tasks import autoencoder

    model = model_of(config, classes)
    if config.task.name == "autoencoder":
        loss_of = lambda outputs, x: autoencoder.squared_error(x, outputs[1])
    else:
        loss_of = getattr(losses, config.task.loss).value
    optimiser = optax.adam(LR)
    params, rest = variables["params"], {name: tree for name, tree in variables.items() if name != "params"}

    devices = mesh.make_mesh(1, len(x), config.run.cpu_devices)

    def train_step(state, key, x, label):
        params, rest, moments = state

        def mean_loss(params):
            variables, rngs = {"params": params} | rest, {"dropout": key}
            with jax.sharding.use_abstract_mesh(devices.abstract_mesh):  # Layers ask for it.
                outputs, updated = model.apply(variables, x, train=True, rngs=rngs, mutable=list(rest))
            return loss_of(outputs, label).mean(), updated

        gradient, rest = jax.grad(mean_loss, has_aux=True)(params)
        updates, moments = optimiser.update(gradient, moments)
        return optax.apply_updates(params, updates), rest, moments

    replicated = jax.sharding.NamedSharding(devices, mesh.REPLICATED)
    compiled = jax.jit(train_step, donate_argnums=0, out_shardings=replicated)
    state = jax.device_put((params, rest, optimiser.init(params)), replicated)
    x, label = mesh.put((x, label), devices, mesh.EVALUATION)
    key = jax.device_put(jax.random.key(1), replicated)

    def train(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state = compiled(state, key, x, label)
        jax.block_until_ready(state)

    return train


def gan_by_audiojax(config, x: np.ndarray, label: np.ndarray, classes: int):
    """A call that trains our GAN by so many steps and waits for the last; x is what its front end, the identity, is
    given."""
    import jax

    from audiojax.tasks.gan import Task

    config = config.copy_and_resolve_references().unlock()
    config.optim.lr, config.frontend = LR, {"name": "identity", "divisor": 1.0}
    task, key = Task(config, np.full(classes, 1 / classes), total_steps=1), jax.random.key(0)
    whole = np.full(len(x), x.shape[1])
    batch = {"input": x[..., 0], "length": whole, "label": label, "weight": np.ones(len(x), np.float32)}
    batch, compiled = jax.device_put(batch), jax.jit(task.train_step, donate_argnums=0)
    state = jax.jit(task.init)(key, {}, batch)

    def train(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, _ = compiled(state, batch, key)
        jax.block_until_ready(state)

    return train


def gan_by_pytorch(config, x: np.ndarray, label: np.ndarray, classes: int, variables: dict, compiled: bool):
    import torch

    from third_party import pytorch, pytorch_cgan

    device = pytorch.device()
    sides = pytorch_cgan.build(config.model, x.shape[1:], classes)
    pytorch_cgan.load(*sides, variables["params"])
    sides = [torch.compile(side.to(device)) if compiled else side.to(device) for side in sides]
    step = pytorch_cgan.trainer(*sides, config.model.latent, LR)
    return waiting(step, x, label, device)


def waiting(step, x: np.ndarray, label: np.ndarray, device: str):
    """A call that trains by so many steps of PyTorch on this batch and waits for the last."""
    import torch

    x, label = torch.from_numpy(x).to(device), torch.from_numpy(label).to(device)

    def train(steps: int) -> None:
        for _ in range(steps):
            step(x, label)
        if device == "cuda":
            torch.cuda.synchronize()

    return train


def by_pytorch(config, x: np.ndarray, label: np.ndarray, classes: int, variables: dict, compiled: bool):
    import torch

    from third_party import pytorch

    device = pytorch.device()
    network = pytorch.build(config.model, x.shape[1:], classes).train()
    pytorch.load(network, variables["params"], variables.get("batch_stats", {}))
    network.to(device)
    step = pytorch.trainer(torch.compile(network) if compiled else network, config.task.loss, LR)
    return waiting(step, x, label, device)


def by_keras(config, x: np.ndarray, label: np.ndarray, classes: int, variables: dict, backend: str):
    os.environ["KERAS_BACKEND"] = backend
    from third_party import keras

    network = keras.build(config.model.to_dict(), x.shape[1:], classes)
    keras.load(network, variables["params"], variables.get("batch_stats", {}))
    network = keras.prepare(network, config.task.loss, LR)

    def train(steps: int) -> None:
        for _ in range(steps):
            network.train_on_batch(x, label)

    return train


class Contender:
    """A framework in a process of its own, which trains its network by so many steps at each call."""

    def __init__(self, framework: str, *arguments):
        context = multiprocessing.get_context("spawn")
        self.here, there = context.Pipe()
        context.Process(target=serve, args=(there, framework, *arguments), daemon=True).start()
        there.close()  # So that the end of that process is an EOFError here.

    def __call__(self, steps: int) -> None:
        self.here.send(steps)
        self.here.recv()


def serve(asked, framework: str, *arguments) -> None:
    """Trains by as many steps as it is asked for each time, until the other end is closed."""
    if framework == "audiojax":
        from audiojax import mesh

        mesh.start()
    is_gan = arguments[0].task.name == "gan"
    match framework.split("-"):
        case ["audiojax"] if is_gan:
            train = gan_by_audiojax(*arguments[:4])
        case ["pytorch", *compiled] if is_gan:
            train = gan_by_pytorch(*arguments, bool(compiled))
        case ["audiojax"]:
            train = by_audiojax(*arguments)
        case ["pytorch", *compiled]:
            train = by_pytorch(*arguments, bool(compiled))
        case ["keras", backend]:
            train = by_keras(*arguments, backend)
    while True:
        try:
            steps = asked.recv()
        except EOFError:
            return
        train(steps)
        asked.send("done")


def train_steps(rows: list[str], peers: list[str], rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Ratios and figures of one train step of each row, of all rows where none are given."""
    import jax

    ratios, figures = {}, {}
    for study, (clip, classes) in CLIPS.items():
        for row in importlib.import_module(f"configs.{study}").ROWS:
            config = importlib.import_module(f"configs.{study}").get_config(row)
            # Rows that build on other runs have the networks of those that do not.
            alone = config.recipe.name in ("single", "gan", "autoencoder") and not config.data.label_file
            if (rows and row not in rows) or not alone:
                continue
            x, label = batch_of(config, clip, classes)
            arguments = config, x, label, classes, variables_of(config, x, classes)
            own = [name for name in peers if config.task.name != "gan" or name.startswith("pytorch")]
            contenders = {name: Contender(name, *arguments) for name in ("audiojax", *own)}
            seconds = seconds_a_step(contenders, rounds)
            for contender in contenders.values():
                contender.here.close()
            figures |= {f"{study}:{row}, {name}, ms a step": 1e3 * s for name, s in seconds.items()}
            ratios |= {f"{study}:{row} / {peer}": seconds[peer] / seconds["audiojax"] for peer in own}
            print(f"{study}:{row}: " + ", ".join(f"{name} {1e3 * s:.1f} ms" for name, s in seconds.items()), flush=True)
            jax.clear_caches()
    return ratios, figures


def seconds_a_step(contenders: dict[str, Contender], rounds: int) -> dict[str, float]:
    """Of each, which take turns of as many steps as take a tenth of a second, since a training's follow each other."""
    timed = lambda steps, rounds: measure(
        {name: functools.partial(call, steps) for name, call in contenders.items()}, rounds
    )
    steps = math.ceil(0.1 / min(timed(1, 1).values()))
    return {name: turn / steps for name, turn in timed(steps, rounds).items()}


def whole_runs(rows: list[str], peers: list[str], args: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Of each row and framework the seconds of a whole run by PHASES: of its runs the one whose time is the median."""
    chosen = {}
    for row in rows or importlib.import_module("configs.li_audioset").ROWS:
        runs = {name: [] for name in ("audiojax", *peers)}
        for _ in range(args.rounds or (1 if args.quick else 3)):
            for name, times in runs.items():
                times.append(time_run(name, row, args))
                print(f"{row}: {name} {sum(times[-1].values()):.1f} s", flush=True)
        chosen[row] = {
            name: sorted(times, key=lambda t: sum(t.values()))[len(times) // 2] for name, times in runs.items()
        }
    return chosen


def time_run(framework: str, row: str, args: argparse.Namespace) -> dict[str, float]:
    """Seconds by PHASES of a whole run, from the command to its end."""
    fraction = f"valid_fraction={args.valid_fraction}"
    with tempfile.TemporaryDirectory() as workdir:
        ours = [f"--config=configs/li_audioset.py:{row}", f"--workdir={workdir}", *RUN, *AS_THE_PEERS]
        ours += [f"--config.{key}={args.epochs}" for key in ("epochs", "eval_every")]
        ours += [f"--config.data.protocols.honest.{fraction}"]
        theirs = ["-m", "third_party.train", framework, row, f"--epochs={args.epochs}", f"--{fraction}"]
        command = ["launch.py", *ours] if framework == "audiojax" else theirs
        command = [sys.executable, *command, f"--data_dir={args.data_dir}"]
        start_s = time.perf_counter()
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        whole_s = time.perf_counter() - start_s
        if framework == "audiojax":
            own = json.loads((pathlib.Path(workdir) / "result.json").read_text())["time_s"]
            time_s = {"input": own["prepare"] + own["input"], "compilation": own["compile"], "scores": own["eval"]}
            time_s["steps"] = own["train"] - own["input"]
        else:
            time_s = json.loads(printed.splitlines()[-1])
    time_s["start"] = whole_s - sum(seconds for name, seconds in time_s.items() if name != "start")
    return {phase: time_s[phase] for phase in PHASES}


def draw_runs(runs: dict[str, dict[str, dict[str, float]]], path: pathlib.Path) -> None:
    """Writes the bars of whole runs, each phase in its colour, as the study's figure 3 today."""
    import matplotlib
    from matplotlib.figure import Figure

    from audiojax.report import plots

    colours = plots.INK, *plots.OTHERS[:2], plots.COLOURS["honest"], plots.COLOURS["paper"]
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure((6.5, 0.5 + sum(0.24 * len(times) + 0.4 for times in runs.values())), layout="constrained")
        heights = [len(times) for times in runs.values()]
        panels = figure.subplots(len(runs), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (row, times) in zip(panels, runs.items()):
            left = np.zeros(len(times))
            for phase, colour in zip(PHASES, colours):
                seconds = np.array([time_s[phase] for time_s in times.values()])
                axes.barh(list(times), seconds, left=left, color=colour, label=phase)
                left += seconds
            axes.bar_label(axes.containers[-1], [f"{total:.3g}" for total in left], padding=3, size=8)
            axes.set(title=row)
            axes.invert_yaxis()
            axes.margins(x=0.1)
        panels[-1].set_xlabel("seconds from the command to the scores of all splits")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(PHASES))
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    process.restart_with_malloc_set()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # Several processes share a GPU.
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"the rows {', '.join(QUICK)} alone, fewer rounds")
    parser.add_argument("--rows", default="", help="these rows alone, of any study")
    parser.add_argument("--peers", default=",".join(FRAMEWORKS), help="of " + ", ".join(FRAMEWORKS))
    parser.add_argument("--runs", action="store_true", help="whole runs of Li's study instead of single steps")
    parser.add_argument("--data_dir", type=pathlib.Path, help="where launch.py has prepared AudioSet, for --runs")
    parser.add_argument("--epochs", type=int, default=10, help="of --runs; the study has ten")
    parser.add_argument("--valid_fraction", type=float, default=0.05, help="of the training clips, for --runs")
    parser.add_argument(
        "--chart", type=pathlib.Path, help="where --runs draws its bars: a file that ends in .svg or .png"
    )
    parser.add_argument("--rounds", type=int, help="turns of each framework: 15 steps, with --quick 5; 3 runs, or 1")
    args = parser.parse_args()
    packages = {package: installed(package) for package in ("torch", "keras")}
    peers = [name for name in args.peers.split(",") if packages["torch" if name.startswith("pytorch") else "keras"]]
    studies = ("li_audioset",) if args.runs else CLIPS
    known = [row for study in studies for row in importlib.import_module(f"configs.{study}").ROWS]
    rows = args.rows.split(",") if args.rows else [row for row in QUICK if row in known] if args.quick else []
    if unknown := sorted({*rows} - {*known}):
        parser.error(f"--rows: there is no {unknown[0]!r} in {', '.join(studies)}")
    if unknown := sorted({*args.peers.split(",")} - {*FRAMEWORKS}):
        parser.error(f"--peers: {unknown[0]!r} is none of {', '.join(FRAMEWORKS)}")
    for name in ("rounds", "epochs"):
        if (number := getattr(args, name)) is not None and number < 1:
            parser.error(f"--{name}={number} must be at least 1")
    if args.chart and (not args.runs or args.chart.suffix not in (".svg", ".png")):
        parser.error(f"--chart={args.chart} is for --runs, and must end in .svg or .png")
    if args.runs:
        if args.data_dir is None:
            parser.error("--runs needs --data_dir")
        runs = whole_runs(rows, peers, args)
        ratios, figures = {}, {}
        for row, times in runs.items():
            whole_s = {name: sum(time_s.values()) for name, time_s in times.items()}
            figures |= {f"{row}, {name}, s a run": seconds for name, seconds in whole_s.items()}
            figures |= {f"{row}, {name}, s of {phase}": s for name, of in times.items() for phase, s in of.items()}
            ratios |= {f"{row} / {peer}": whole_s[peer] / whole_s["audiojax"] for peer in peers}
    else:
        ratios, figures = train_steps(rows, peers, args.rounds or (5 if args.quick else 15))
    report("frameworks", ratios, figures)
    if args.chart:  # Last, so that a file that cannot be written loses no figures.
        draw_runs(runs, args.chart)


if __name__ == "__main__":
    main()

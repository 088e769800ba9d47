"""Self-training on short waveforms of six shapes in noise: few verified, a fifth of the others under a wrong label."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from audiojax import experiment
from audiojax.data import labels, store
from audiojax.data.prepared import Prepared, folder_of
from audiojax.data.windows import select
from audiojax.errors import ConfigError, NonFiniteError
from audiojax.recipes import self_training, single
from tests.conftest import ROOT, config_of

SHAPES = tuple("abcdef")
VERIFIED, UNVERIFIED, TEST = 90, 600, 600  # clips
TRAIN = VERIFIED - 12  # without those of validation
SAMPLES = 64
SMALL = {
    "data.name": "shapes",
    "data.label_file": "",
    "data.subset_weights": {"unverified": 0.0},
    "frontend.n_fft": 16,
    "frontend.hop_samples": 8,
    "frontend.height": 9,
    "frontend.width": 8,
    "model.stages": (("conv", 8, 3, 1), ("dense", 32)),
    "epochs": 0.0,
    "steps": 24,
    "eval_every": 8.0,
    "optim.lr": 5e-3,
    "batch_size": 16,
    "eval_batch_size": 128,
    "recipe.iterations": 3,
    "recipe.lower": (0.4, 0.5),
}


def small(**overrides):
    plain = {key.replace(".", "__"): value for key, value in SMALL.items()}
    return config_of("ntu_freesound", "self_training_3", **plain | overrides)


def rows(folder):
    with open(folder / "labels.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("data"), noise=0.8)


def write_shapes(data_dir, noise):
    """A prepared data set: clips of a shape are its waveform and `noise` times as much noise; ids end in the shape."""
    rng, folder = np.random.default_rng(0), folder_of("shapes", "released", data_dir)
    folder.mkdir(parents=True)
    waveforms = rng.normal(size=(len(SHAPES), SAMPLES))

    def item(split, number, subset):
        shape = number % len(SHAPES)
        label = (shape + 1) % len(SHAPES) if subset == "unverified" and rng.random() < 0.2 else shape
        audio = (2000 * (waveforms[shape] + noise * rng.normal(size=SAMPLES))).astype(np.int16)
        name = f"{split}-{number:04d}-{SHAPES[shape]}"
        return name, lambda: store.Example(name, name, label, audio, subset)

    train = [item("train", n, "verified" if n < VERIFIED else "unverified") for n in range(VERIFIED + UNVERIFIED)]
    items = {"train": train, "test": [item("test", n, ("public", "private")[n // 6 % 2]) for n in range(TEST)]}
    counts = {name: store.write(folder, name, of, (), np.dtype(np.int16), None).examples for name, of in items.items()}
    Prepared(
        **{"folder": folder, "name": "shapes", "variant": "released", "input": "audio", "step_shape": ()},
        **{"input_dtype": "int16", "sample_rate_hz": SAMPLES, "longest": SAMPLES, "multi_label": False},
        **{"classes": list(SHAPES), "examples": counts, "released_examples": {}, "skipped": [], "changes": {}},
    ).save()
    return data_dir


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("self_training") / "run"
    return self_training.run(small(), workdir, None, data_dir), workdir


def test_a_clip_joins_under_its_predicted_label_within_the_bounds(finished):
    result, workdir = finished
    first, second, third = (rows(workdir / "seed_0" / f"iteration_{number:02d}") for number in range(3))
    assert {row["subset"] for row in first} == {"verified"} and len(first) == TRAIN
    with np.load(workdir / "seed_0" / "iteration_00" / "predictions" / "pool.npz") as arrays:
        pool, score = arrays["id"], arrays["score"]
    assert len(pool) == result["unlabelled"] == UNVERIFIED and not {row["clip"] for row in first} & set(pool)
    chosen = {row["clip"]: row for row in second if row["subset"] == "pseudo"}
    lower = 0.4  # the first of two, to 0.5
    expected = {clip: p for clip, p in zip(pool, score) if lower <= p.max() <= 0.95}
    assert chosen.keys() == expected.keys() and 0 < len(chosen) < len(pool)
    for clip, p in expected.items():
        assert chosen[clip]["label"] == result["classes"][p.argmax()]
        assert float(chosen[clip]["probability"]) == pytest.approx(p.max(), abs=1e-6)
        assert chosen[clip]["iteration"] == "2"
    assert [row for row in second if row["subset"] == "verified"] == [
        row | {"probability": "", "iteration": ""} for row in first
    ]
    assert {row["iteration"] for row in third} == {"", "3"}


def test_an_iteration_goes_on_from_the_weights_that_were_chosen_before(finished):
    _, workdir = finished
    losses = []
    for number in range(3):
        lines = (workdir / "seed_0" / f"iteration_{number:02d}" / "metrics.jsonl").read_text().splitlines()
        losses.append([of["train/loss"][0] for of in map(json.loads, lines) if "train/loss" in of])
    assert losses[1][0] < 0.8 * losses[0][0] and losses[2][0] < 0.8 * losses[0][0]


def test_result_is_a_run_s_with_a_trace_as_the_study_printed(finished, data_dir):
    result, workdir = finished
    [(title, table)] = result["tables"].items()
    assert table["header"][:5] == ("iteration", "epoch", "data", "train accuracy", "valid accuracy")
    valid = [
        json.loads((workdir / "seed_0" / f"iteration_{n:02d}" / "result.json").read_text())["valid"] for n in range(3)
    ]
    best = int(np.argmax(valid))
    assert title == f"Iterations of seed 0; chosen: {best + 1}"
    assert [line[0] for line in table["lines"]] == ["1", "2", "3"]
    assert [int(line[2]) for line in table["lines"]] == [
        len(rows(workdir / "seed_0" / f"iteration_{n:02d}")) for n in range(3)
    ]
    assert result["metrics"]["valid"]["map_at_3"] == [pytest.approx(valid[best])]
    assert {"train", "valid", "test", "test_public", "test_private"} <= result["metrics"].keys()
    assert result["metrics"]["test"]["accuracy"][0] > 3 / 6
    with np.load(workdir / "predictions" / "test.npz") as arrays:
        assert arrays["score"].shape == (TEST, 6)
    kept = {n for n in range(3) if (workdir / "seed_0" / f"iteration_{n:02d}" / "checkpoints").exists()}
    assert kept == {best, 2}
    before = (workdir / "result.json").stat().st_mtime_ns
    self_training.run(small(), workdir, None, data_dir)
    assert (workdir / "result.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_seeds_choose_labels_of_their_own(finished, data_dir, tmp_path):
    _, alone = finished
    both = self_training.run(small(replicas=2, recipe__iterations=2), tmp_path / "run", None, data_dir)
    assert len(both["tables"]) == len(both["best_step"]) == len(both["metrics"]["test"]["map_at_3"]) == 2
    assert "test_ensemble" in both["metrics"] and both["time_s"]["prepare"] > 0
    of_seed = lambda seed: (tmp_path / "run" / f"seed_{seed}" / "iteration_01" / "labels.csv").read_bytes()
    # The first bound of two iterations is that of three: seed 0 is trained the same, with others or alone.
    assert of_seed(0) == (alone / "seed_0" / "iteration_01" / "labels.csv").read_bytes() != of_seed(1)


@pytest.mark.slow
def test_a_killed_run_ends_as_the_uninterrupted_one(finished, data_dir, tmp_path):
    """Killed in the middle of its second iteration, and again wherever it had come to in the third."""
    result, reference = finished
    flags = ["--config=configs/ntu_freesound.py:self_training_3", f"--data_dir={data_dir}", f"--workdir={tmp_path}/run"]
    # As a user would give them, but for the subsets' weight, which has a flag of its own.
    settings = SMALL | {"data.subset_weights.unverified": 0.0}
    del settings["data.subset_weights"]
    flags += [f"--config.{key}={value}" for key, value in settings.items()]
    command = [sys.executable, "launch.py", *flags]
    for number in (1, 2):
        folder = tmp_path / "run" / "seed_0" / f"iteration_{number:02d}"
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and not list((folder / "checkpoints").glob("[0-9]*")):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (folder / "result.json").exists() and not (tmp_path / "run" / "result.json").exists()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=os.environ)
    ended = json.loads((tmp_path / "run" / "result.json").read_text())
    assert ended["metrics"] == json.loads((reference / "result.json").read_text())["metrics"]
    for number in range(3):
        path = f"seed_0/iteration_{number:02d}/labels.csv"
        assert (tmp_path / "run" / path).read_bytes() == (reference / path).read_bytes()
    same = lambda folder: np.load(folder / "predictions" / "test.npz")["score"].tobytes()
    assert same(tmp_path / "run") == same(reference) and ended["tables"] == json.loads(json.dumps(result["tables"]))


@pytest.mark.slow
def test_agreed_labels_raise_map_at_3_over_verified_clips_alone(tmp_path):
    """Five seeds of each."""
    data_dir = write_shapes(tmp_path / "data", noise=2.0)
    network = {"name": "mlp", "kernel_init": "lecun_normal", "hidden": (32,), "standardise": False}
    network |= {"input_dropout": 0.0, "dropout": 0.0}
    waveforms = {"frontend": {"name": "identity", "divisor": 2000.0}, "model": network}
    settings = {"data__name": "shapes", "data__subset_weights": {"unverified": 0.0}, "epochs": 0.0, "steps": 90}
    settings |= {
        "eval_every": 30.0,
        "batch_size": 16,
        "eval_batch_size": 256,
        "optim__lr": 3e-3,
        "replicas": 5,
        "run__first_layer": False,
    }
    agreeing = {"iterations": 2, "lower": (0.0, 0.0), "upper": 1.0, "warm_start": False, "agreeing": True}
    agreeing = {f"recipe__{name}": value for name, value in agreeing.items()}
    config = config_of("ntu_freesound", "self_training_3", data__label_file="", **waveforms, **settings, **agreeing)
    trained = self_training.run(config, tmp_path / "self_training", None, data_dir)
    verified = single.run(config, tmp_path / "verified", None, data_dir)
    gain = np.subtract(*(of["metrics"]["test"]["map_at_3"] for of in (trained, verified)))
    assert gain.mean() > 0.01 and gain.min() > -0.02


def test_labels_that_the_network_agrees_with_are_right(finished, data_dir, tmp_path):
    result, workdir = finished
    config = small(recipe__agreeing=True, recipe__lower=(0.0, 0.0), recipe__upper=1.0)
    data = experiment.open_run(config, tmp_path, None, data_dir)
    whole = self_training.all_clips(config, data)
    pool = select(whole, whole.subset == "unverified")
    seed = self_training.Seed(config, data, whole, pool, workdir / "seed_0")
    added = [row for row in self_training.choose(seed, 1) if row["subset"] == "pseudo"]
    own = {clip: result["classes"][label] for clip, label in zip(pool.id, pool.label)}
    assert len(added) > 10 and all(own[row["clip"]] == row["label"] for row in added)
    sounds = lambda clip: clip[-1]
    assert np.mean([sounds(clip) == label for clip, label in own.items()]) < 0.82
    assert np.mean([sounds(row["clip"]) == row["label"] for row in added]) > 0.9


@pytest.mark.parametrize(
    "overrides",
    [
        {"recipe__iterations": 0},
        {"recipe__lower": (0.5, 1.1)},
        {"recipe__lower": (0.5,)},
        {"recipe__lower": (0.5, 0.99)},
        {"recipe__upper": 1.5},
    ],
)
def test_bounds_that_cannot_be_are_said(data_dir, tmp_path, overrides):
    with pytest.raises(
        ConfigError, match="recipe.iterations=.* must be at least 1, lower=.* .two bounds. and upper=.* in order"
    ):
        self_training.run(small(**overrides), tmp_path / "run", None, data_dir)


def test_a_label_file_s_labels_are_the_first_ones(data_dir, tmp_path, finished):
    path = tmp_path / "labels.csv"
    given = rows(finished[1] / "seed_0" / "iteration_00")[:60]
    labels.write(path, [{"clip": row["clip"], "label": row["label"], "weight": 0.5} for row in given])
    config = small(recipe__iterations=1, steps=4)
    with config.unlocked():
        config.data.label_file, config.data.subset_weights = str(path), {}
    result = self_training.run(config, tmp_path / "run", None, data_dir)
    assert result["examples"]["train"] == 60 and result["unlabelled"] == UNVERIFIED + TRAIN - 60
    assert {row["weight"] for row in rows(tmp_path / "run" / "seed_0" / "iteration_00")} == {"0.5"}


@pytest.mark.slow
def test_a_seed_that_diverges_ends_there_and_the_others_go_on(data_dir, tmp_path, monkeypatch):
    iterate = self_training.iterate

    def diverging(seed, number):
        if (seed.config.seed, number) in ((1, 0), (2, 1)):
            raise NonFiniteError("loss is nan at step 5", {"step": 5, "quantity": "loss"})
        return iterate(seed, number)

    monkeypatch.setattr(self_training, "iterate", diverging)
    config = small(replicas=3, recipe__iterations=2, seed=1)
    result = self_training.run(config, tmp_path / "run", None, data_dir)
    mark = {"step": 5, "quantity": "loss"}
    assert result["diverged"] == {"seed 1": mark | {"iteration": 1}, "seed 2": mark | {"iteration": 2}}
    for values in result["metrics"]["test"].values():
        assert values[0] is None and None not in values[1:]
    assert result["best_step"][0] == 0 and min(result["best_step"][1:]) > 0
    assert len(np.load(tmp_path / "run" / "predictions" / "test.npz")["score"]) == 2
    assert list(result["tables"]) == ["Iterations of seed 2; chosen: 1", *list(result["tables"])[1:]]
    assert len([note for note in result["notes"] if "diverged (loss is nan at step 5)" in note]) == 2
    with pytest.raises(NonFiniteError, match="loss is nan at step 5"):
        self_training.run(small(seed=1), tmp_path / "alone", None, data_dir)

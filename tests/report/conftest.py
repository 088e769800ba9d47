"""Small finished runs with given scores, written by the Writer of a run."""

import pathlib

import numpy as np
import pytest

from audiojax import metrics
from audiojax.data import store
from audiojax.data.prepared import Prepared, folder_of
from audiojax.data.windows import Part
from audiojax.report import scores
from audiojax.writer import Writer

RATE_HZ = 8000
CLASSES = ["cat", 'dog "<b>&', "鳥"]
IDS = ["a</script><script>hacked=1</script>", "b' onerror='hacked=1", 'c" onload="hacked=1', "d&amp;", "音", "plain"]
ROWS = {
    "a_1": {"published": {"train": {"accuracy": 0.99}, "test": {"accuracy": 0.9}}},
    "empty": {"published": {}},
    "late": {"published": {"test": {"accuracy": 0.5, "macro_f1": 0.4}}},
}


def config_of(protocol: str, split_seed: int = 0, select: str = "accuracy", name: str = "tones", seconds: float = 0.5):
    data = {
        "name": name,
        "variant": "released",
        "split_seed": split_seed,
        "split_file": "",
        "segment": {"seconds": seconds},
        "protocols": {protocol: {"train": "half", "test": "all"}},
    }
    return {
        **{"study": "study", "row": "row", "protocol": protocol, "seed": 0, "replicas": 1},
        **{"data": data, "task": {"name": "supervised"}, "select": select},
    }


def result_of(test: dict[str, list], ci95: dict | None = None, **other) -> dict:
    """A result.json with these test scores, each a list over replicas."""
    replicas = len(next(iter(test.values())))
    plain = {
        **{"variant": "released", "seed": 0, "replicas": replicas, "published": {}, "parameters": 1234},
        **{"best_step": [20] * replicas, "classes": CLASSES, "notes": [], "skipped": []},
        "metrics": {"train": test, "valid": test, "test": test},
        "ci95": {"test": ci95 or {}},
        "examples": {"train": 8, "valid": 4, "test": 6, "skipped": 0, "absent": {}, "changed": {}},
        "time_s": {"train": 10.0},
        **{"device": "1 × cpu", "versions": {"jax": "0"}, "commit": None},
    }
    return plain | other


def write_run(folder: pathlib.Path, config: dict, result: dict, label=None, score_RNK=None, id_N=None) -> pathlib.Path:
    """Writes a finished run. With labels and scores it has predictions, curves and scores of classes."""
    row, protocol = folder.parts[-3:-1]
    protocols = {protocol: config["data"]["protocols"][config["protocol"]]}
    place = {"row": row, "protocol": protocol, "data": config["data"] | {"protocols": protocols}}
    writer = Writer(folder, config | place)
    writer.begin(0)
    if label is not None:
        by_class = [metrics.by_class(score_NK, label) for score_NK in score_RNK]
        lists = [{name: values.tolist() for name, values in replica.items()} for replica in by_class]
        result = result | {"per_class": {"test": lists}}
        count, blank = len(label), np.full(len(label), "")
        offset = np.arange(count) % 2 * RATE_HZ // 2
        part = Part("all", RATE_HZ // 2, np.array(id_N), blank, blank, label, offset, offset, offset, offset, offset)
        for step in (10, 20):
            writer.log(step, {"train/loss": [10.0 / step] * len(score_RNK)})
        writer.log(20, {"valid/loss": [0.7] * len(score_RNK), "valid/accuracy": [0.5] * len(score_RNK)})
        writer.predictions("test", part, score_RNK)
    writer.close()
    writer.result(result)
    return folder


def tone(row: int) -> np.ndarray:
    """The clip IDS[row], a tone that grows louder: int16 [RATE_HZ]."""
    time_s = np.arange(RATE_HZ) / RATE_HZ
    return (9000 * time_s * np.sin(2 * np.pi * 300 * (row + 1) * time_s)).astype(np.int16)


def write_tones(data_dir: pathlib.Path) -> None:
    """Writes a prepared data set of 1 s tones, one for each clip of IDS."""
    folder = folder_of("tones", "released", data_dir)
    folder.mkdir(parents=True)
    clip = lambda row: store.Example(IDS[row], IDS[row], row % 3, tone(row))
    items = [(name, lambda row=row: clip(row)) for row, name in enumerate(IDS)]
    written = store.write(folder, "all", items, (), np.dtype(np.int16), None)
    Prepared(
        **{"folder": folder, "name": "tones", "variant": "released", "input": "audio", "step_shape": ()},
        **{"input_dtype": "int16", "sample_rate_hz": RATE_HZ, "longest": written.longest, "multi_label": False},
        **{"classes": CLASSES, "examples": {"all": 6}, "released_examples": {}, "skipped": [], "changes": {}},
    ).save()


def put(workdir, row, protocol, split_seed, result):
    folder = workdir / row / protocol / f"split_{split_seed}"
    return write_run(folder, config_of(protocol, split_seed), result)


@pytest.fixture
def workdir(tmp_path):
    """Runs of a_1: one under paper; two splits of two seeds under honest, the second of which took longer."""
    paper = result_of({"accuracy": [0.8], "macro_f1": [0.75]}, {"accuracy": [[0.7, 0.9]]})
    first = result_of(
        {"accuracy": [0.5, 0.6], "macro_f1": [0.4, 0.5], "accuracy_group": [0.7, 0.7]},
        {"accuracy": [[0.4, 0.6], [0.5, 0.7]]},
    )
    second = result_of(
        {"accuracy": [0.7, 0.4], "macro_f1": [0.6, None], "accuracy_group": [0.8, 0.8]},
        {"accuracy": [[0.6, 0.8], [0.3, 0.62]]},
        time_s={"train": 30.0},
        examples={"train": 8, "valid": 4, "test": 6, "skipped": 0, "absent": {"all": 94}, "changed": {}},
    )
    put(tmp_path, "a_1", "honest", 1, second)
    put(tmp_path, "a_1", "honest", 0, first)
    put(tmp_path, "a_1", "paper", 0, paper)
    (tmp_path / "late" / "honest" / "split_0").mkdir(parents=True)
    (tmp_path / "late" / "honest" / "split_0" / "config.json").write_text("{}")
    return tmp_path


@pytest.fixture
def entries(workdir):
    return scores.summarise(ROWS, scores.read_runs(workdir, ROWS)[0])

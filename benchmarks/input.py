"""The input pipeline: python -m benchmarks.input [--quick] [--data_dir=DIR].

Windows of a synthesised GTZAN of full size (1,000 tracks of 30 s, 1.3 GB; --quick: a tenth) from both sources; memory
of a process that reads them; what share of the time each row of each study waits for input; preparation against a
loop of librosa.load. DIR holds prepared data (default: stand-ins, prepared in a temporary folder).
"""

import argparse
import contextlib
import importlib
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import jax
import librosa
import numpy as np
import soundfile

from audiojax import mesh as meshes
from audiojax.data import order, store
from audiojax.data.datasets import gtzan
from audiojax.data.prepared import Prepared, find, folder_of
from benchmarks.common import measure, report
from configs import common

RATE_HZ, TRACK_SAMPLES, BATCH = 22_050, 661_500, 32
STUDIES = ("li_audioset", "rit_nsynth", "fagan_gtzan", "ntu_freesound")


def noise_tracks(count: int):
    """Items of `count` tracks of noise."""
    for number in range(count):
        rng = np.random.default_rng(number)
        audio = rng.integers(-(2**15), 2**15, TRACK_SAMPLES, np.int16)
        yield str(number), lambda a=audio, n=number: store.Example(f"{n:04d}", f"{n:04d}", n % 10, a)


def write_gtzan(folder: pathlib.Path, tracks: int) -> None:
    """A prepared data set of noise."""
    folder.mkdir(parents=True)
    written = store.write(folder, "all", noise_tracks(tracks), (), np.int16, None)
    classes = [f"genre {k}" for k in range(10)]
    Prepared(
        *(folder, "gtzan", "noise", "audio", (), "int16", RATE_HZ, written.longest, False, classes),
        *({"all": tracks}, {}, [], {}),
    ).save()


def read_windows(folder: str, kind: str, batches: int) -> None:
    """Reads 3 s windows by one source; prints examples/s and the process's peak memory in bytes."""
    from audiojax.data.open import open_source
    from audiojax.data.protocol import make_parts

    prepared = find("gtzan", "noise", pathlib.Path(folder))
    config = common.base()
    config.run.source, data = kind, config.data
    data.segment.seconds = 3.0
    protocol = dict(train="all", valid="all", test="all", unit="group", valid_fraction=0.15, test_fraction=0.3)
    parts, *_ = make_parts(prepared, protocol, data)
    mesh = meshes.make_mesh(1, BATCH, cpu_devices=1)
    source = open_source(config, prepared, parts, mesh)
    arrays, examples = source.data("train"), len(parts["train"].id)
    rows = lambda call: order.train_rows(examples, [0], BATCH, call, call + 1)
    feed = source.feed("train", range(batches + 10), rows, meshes.TRAIN)
    # The sum makes every sample be read and next to nothing be computed.
    total = jax.jit(lambda arrays, x: source.take(arrays, x)["input"].sum())
    for _ in range(10):
        total(arrays, next(feed)).block_until_ready()
    start_s = time.perf_counter()
    for x in feed:
        total(arrays, x).block_until_ready()
    per_s = batches * BATCH / (time.perf_counter() - start_s)
    print(per_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def waiting(data_dir: pathlib.Path, study: str, row: str, kind: str, variant: str, steps: int) -> float:
    """Share of the training time of a row in which the device waits for input."""
    from audiojax.recipes import single

    config = importlib.import_module(f"configs.{study}").get_config(row)
    with config.unlocked():
        config.run.source, config.data.variant = kind, variant
        config.epochs, config.steps, config.examples, config.eval_every = 0.0, steps, 0, float(steps)
        if "within_train" in config.data.protocols:
            config.protocol = "within_train"
    with tempfile.TemporaryDirectory() as workdir, contextlib.redirect_stdout(None):
        time_s = single.run(config, pathlib.Path(workdir), None, data_dir)["time_s"]
    return time_s["input"] / time_s["train"]


def rows_of(study: str) -> list[str]:
    """The rows that build on no other, but for the largest networks, whose steps take minutes and wait for nothing."""
    module = importlib.import_module(f"configs.{study}")
    configs = {row: module.get_config(row) for row, of in module.ROWS.items() if of["parameters"] < 10_000_000}
    return [row for row, of in configs.items() if of.recipe.name == "single" and not of.data.label_file]


def preparation(folder: pathlib.Path, tracks: int, extension: str, rate_hz: int, rounds: int) -> dict[str, float]:
    """Seconds to read tracks of 30 s: by our preparation, which also writes them, and by a loop of librosa.load."""
    tree = folder / "gtzan" / "genres" / "blues"
    tree.mkdir(parents=True)
    for number in range(tracks):
        audio = np.random.default_rng(number).integers(-3000, 3000, 30 * rate_hz, np.int16)
        soundfile.write(tree / f"blues.{number:05d}.{extension}", audio, rate_hz)

    def ours():
        with tempfile.TemporaryDirectory(dir=folder) as prepared:
            builder = gtzan.Builder(config="released", raw_dir=folder / "gtzan", data_dir=prepared)
            builder.download_and_prepare()

    loop = lambda: [librosa.load(path, sr=RATE_HZ) for path in sorted(tree.iterdir())]
    return measure({"ours": ours, "librosa": loop}, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data_dir", type=pathlib.Path)
    parser.add_argument("--read", nargs=3, help=argparse.SUPPRESS)  # folder, source, batches: in a process of its own
    arguments = parser.parse_args()
    if arguments.read:
        folder, kind, batches = arguments.read
        return read_windows(folder, kind, int(batches))
    figures, ratios = {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for extension, rate_hz in (("wav", RATE_HZ), ("flac", 2 * RATE_HZ)):
            tracks, rounds = (20, 2) if arguments.quick else (100, 5)
            seconds = preparation(folder / extension, tracks, extension, rate_hz, rounds)
            case = f"preparation of {rate_hz} Hz {extension}"
            figures[f"{case}, clips/s"] = tracks / seconds["ours"]
            ratios[f"{case} over librosa.load"] = seconds["librosa"] / seconds["ours"]
        write_gtzan(folder_of("gtzan", "noise", folder), tracks=100 if arguments.quick else 1000)
        for kind in ("resident", "stream"):
            command = [sys.executable, "-m", "benchmarks.input", "--read", temporary, kind, "200"]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            figures[f"{kind} examples/s"], peak_bytes = map(float, output[-2:])
            figures[f"{kind} peak memory GB"] = peak_bytes / 1e9
        variant = "released" if arguments.data_dir else "stand_in"
        for study in STUDIES[:1] if arguments.quick else STUDIES:
            rows = rows_of(study)
            for row in rows[:1] if arguments.quick else rows:
                # Long enough that the start of the source counts as little as in a real run.
                steps = 960 if study == "li_audioset" and row != "lstm" else 60
                for kind in ("resident", "stream"):
                    share = waiting(arguments.data_dir or folder / "data", study, row, kind, variant, steps)
                    figures[f"waiting {study}:{row} {kind} %"] = 100 * share
    report("input", ratios, figures)


if __name__ == "__main__":
    main()

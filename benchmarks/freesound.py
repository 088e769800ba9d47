"""FSDKaggle2018 at its full size: python -m benchmarks.freesound [--quick] [--clips=N].

A release of noise with as many clips as the real one (9,473 of 0.3 to 30 s at 44.1 kHz, 7 s on average; --quick: a
tenth) is prepared, and a network trained on whole clips read from disk: the memory that each takes and the share of
the time that the device waits for input. Then labels are spread over as many latents of 4,096 dimensions, and t-SNE
lays them out: time and memory. Each in a process of its own.
"""

import argparse
import csv
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import soundfile

from audiojax.data.datasets.fsdkaggle2018 import CLASSES, SAMPLE_RATE_HZ
from benchmarks.common import report
from configs import ntu_freesound

CLIPS, LATENT = 9_473, 4096
SPREADING = ntu_freesound.get_config("spread_1").recipe.spreading.to_dict()


def write_release(folder: pathlib.Path, clips: int) -> float:
    """A release whose clips are noise; returns how many GB its sounds take."""
    rng, total = np.random.default_rng(0), 0
    audio, meta = folder / "FSDKaggle2018.audio_train", folder / "FSDKaggle2018.meta"
    for path in (audio, meta):
        path.mkdir(parents=True)
    noise = rng.integers(-3000, 3000, 60 * SAMPLE_RATE_HZ, np.int16)
    rows = []
    for number in range(clips):
        seconds = 30.0 if number == 0 else float(np.clip(rng.lognormal(1.5, 0.95), 0.3, 30))
        start = int(rng.integers(0, 30 * SAMPLE_RATE_HZ))
        samples = noise[start : start + int(seconds * SAMPLE_RATE_HZ)]
        soundfile.write(audio / f"{number:08x}.wav", samples, SAMPLE_RATE_HZ)
        total += 2 * len(samples)
        verified = int(rng.random() < 0.39)
        rows.append((f"{number:08x}.wav", CLASSES[number % len(CLASSES)], verified, number, "CC0"))
    with open(meta / "train_post_competition.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("fname", "label", "manually_verified", "freesound_id", "license"))
        writer.writerows(rows)
    return total / 1e9


WATCH = """
import pathlib, threading, time
def watch(peak):
    while True:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        kb = [int(line.split()[1]) for line in lines if line.startswith("RssAnon")]
        peak[0] = max(peak[0], *kb)
        time.sleep(0.05)
peak = [0]
threading.Thread(target=watch, args=(peak,), daemon=True).start()
"""


def measured(code: str, *arguments: str) -> list[float]:
    """Numbers that a process prints behind a "=", and its greatest memory in GB, without the files that it maps."""
    command = [sys.executable, "-c", WATCH + code + "print('=', peak[0] / 1e6)", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    lines = [line.split() for line in done.stdout.splitlines()]
    return [float(word) for start, *words in filter(None, lines) if start == "=" for word in words]


PREPARE = """
import pathlib, sys, time
from audiojax.data.prepare import prepare
start = time.perf_counter()
prepare("fsdkaggle2018", "released", pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), True)
print('=', time.perf_counter() - start)
"""

TRAIN = """
import contextlib, io, pathlib, sys
from configs import ntu_freesound
from audiojax import mesh
from audiojax.recipes import single
mesh.start()
config = ntu_freesound.get_config("cnn2d_all").unlock()
config.protocol, config.run.source = "within_train", "stream"
config.frontend.height = config.frontend.width = 64
config.epochs, config.steps, config.eval_every = 0.0, int(sys.argv[3]), float(sys.argv[3])
with contextlib.redirect_stdout(io.StringIO()):
    result = single.run(config.lock(), pathlib.Path(sys.argv[2]) / "run", None, pathlib.Path(sys.argv[1]))
time_s = result["time_s"]
print("=", time_s["input"] / time_s["train"], result["examples_per_s"])
"""

SPREAD = """
import sys, time
import numpy as np
from audiojax.recipes import label_spreading
from benchmarks.freesound import LATENT, SPREADING
rng, clips = np.random.default_rng(0), int(sys.argv[1])
label = np.arange(clips) % 41
latent = rng.normal(size=(41, LATENT))[label] + 2 * rng.normal(size=(clips, LATENT))
latent = (latent / np.linalg.norm(latent, axis=1, keepdims=True)).astype(np.float32)
start = time.perf_counter()
if sys.argv[2] == "spread":
    label_spreading.spread(latent, label, rng.random(clips) < 0.39, SPREADING)
else:
    label_spreading.embed(latent, 0)
print('=', time.perf_counter() - start)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--clips", type=int)
    arguments = parser.parse_args()
    clips = arguments.clips or (CLIPS // 10 if arguments.quick else CLIPS)
    figures = {"clips": clips}
    with tempfile.TemporaryDirectory() as temporary:
        raw, data, work = (pathlib.Path(temporary) / name for name in ("raw", "data", "work"))
        figures["release GB"] = write_release(raw / "fsdkaggle2018", clips)
        seconds, memory = measured(PREPARE, str(raw), str(data))
        figures |= {"preparation clips/s": clips / seconds, "preparation memory GB": memory}
        share, per_s, memory = measured(TRAIN, str(data), str(work), "20" if arguments.quick else "100")
        figures |= {"training waits for input %": 100 * share, "training clips/s": per_s, "training memory GB": memory}
    for kind, name in (("spread", "label spreading"), ("embed", "t-SNE")):
        figures[f"{name} s"], figures[f"{name} memory GB"] = measured(SPREAD, str(clips), kind)
    report("freesound", {}, figures)


if __name__ == "__main__":
    main()

"""Peak memory and speed of the rows that need the most memory, under each value of run.malloc.

Each run is `launch.py` on stand-in data for a few steps. The settings take turns. A run above LIMIT_GB is killed.
Memory is the largest peak of all rounds; speed is the median, without compilation. The host must have no accelerator.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from audiojax import host, process
from audiojax.data.prepare import prepare
from benchmarks.common import report

ROOT = pathlib.Path(__file__).parent.parent
SETTINGS = ("keep", "huge_pages", "system")
STEPS = {  # by row; about a minute each on two cores
    "ntu_freesound:vgg_large": 24,
    "ntu_freesound:autoencoder": 60,
    "wang_gtzan:gan_fcn": 60,
    "wang_gtzan:gan_cnn": 60,
    "fagan_gtzan:acn_cnn2d": 40,
    "li_audioset:gcnn": 40,
    "beyond_audioset:multi_head": 60,
}
DATA_SETS = {"ntu": "fsdkaggle2018", "wang": "gtzan", "fagan": "gtzan", "li": "audioset", "beyond": "audioset"}
LIMIT_GB = 16


def peak_gb(process_id: int) -> float:
    """The largest resident memory of a process so far; 0 once it has ended."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{process_id}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    return 0.0


def run(row: str, steps: int, tunables: str, data_dir: pathlib.Path, folder: pathlib.Path) -> tuple[float, float]:
    """Peak memory in GB and examples a second of one run; (LIMIT_GB, 0) if it is killed."""
    workdir = tempfile.mkdtemp(dir=folder)
    flags = [f"--config=configs/{row.replace(':', '.py:')}", f"--workdir={workdir}", f"--data_dir={data_dir}"]
    flags += ["--config.data.variant=stand_in", "--config.recipe.name=single", "--config.epochs=0"]
    flags += [f"--config.steps={steps}", f"--config.eval_every={steps}"]
    environment = os.environ | {"GLIBC_TUNABLES": tunables, "JAX_COMPILATION_CACHE_DIR": str(folder / "xla")}
    with open(folder / "output", "w+") as output:
        child = subprocess.Popen(
            [sys.executable, "launch.py", *flags], cwd=ROOT, env=environment, stdout=output, stderr=output
        )
        peaks = [0.0]
        while child.poll() is None:
            peaks.append(peak_gb(child.pid))
            if peaks[-1] > LIMIT_GB:
                child.kill()
                child.wait()
                return LIMIT_GB, 0.0
            time.sleep(0.05)
        if child.returncode:
            output.seek(0)
            raise SystemExit(output.read())
    return max(peaks), json.loads(pathlib.Path(workdir, "result.json").read_text())["examples_per_s"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one row, few steps, two settings")
    parser.add_argument("--rows", default="", help="only these rows, such as wang_gtzan:gan_fcn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data_dir", type=pathlib.Path, help="folder of prepared data; a temporary one by default")
    arguments = parser.parse_args()
    rows, settings, rounds = list(STEPS), SETTINGS, arguments.rounds
    if arguments.quick:
        rows, settings, rounds = ["beyond_audioset:multi_head"], ("keep", "system"), 1
    rows = arguments.rows.split(",") if arguments.rows else rows
    tunables = {setting: process.malloc_tunables(setting, host.memory_bytes()) for setting in settings}
    ratios, figures = {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        data_dir = arguments.data_dir or folder / "data"
        for row in rows:
            prepare(DATA_SETS[row.split("_")[0]], "stand_in", None, data_dir, strict=True)
            steps = 5 if arguments.quick else STEPS[row]
            runs = [{s: run(row, steps, tunables[s], data_dir, folder) for s in settings} for _ in range(rounds)]
            speed = {s: statistics.median(measured[s][1] for measured in runs) for s in settings}
            for setting in settings:
                figures[f"{row}, {setting}, GB"] = max(measured[setting][0] for measured in runs)
                figures[f"{row}, {setting}, examples/s"] = speed[setting]
                if setting != "system":
                    ratios[f"{row}, {setting} / system"] = speed[setting] / speed["system"] if speed["system"] else 0.0
    report("memory", ratios, figures)


if __name__ == "__main__":
    main()

"""Fixtures: prepared stand-in data shared by all test processes, small configs, the real data where it is present."""

import contextlib
import fcntl
import importlib
import io
import os
import pathlib
import subprocess
import sys
from typing import NamedTuple
from unittest import mock

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")  # mesh.start would come too late.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")  # Tests compile for longer than they compute.

import jax
import pytest
from absl import flags
from absl.testing import flagsaver

from audiojax import command_line, mesh, names
from audiojax.errors import AudiojaxError

EIGHT_DEVICES = {"JAX_NUM_CPU_DEVICES": "8"}
ROOT = pathlib.Path(__file__).parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


def run_on_eight_devices(code: str) -> subprocess.CompletedProcess:
    """A process of its own, with what it printed, that runs this Python code on eight CPU devices."""
    environment = os.environ | EIGHT_DEVICES | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)


@pytest.fixture(scope="session")
def shared_tmp(tmp_path_factory, worker_id) -> pathlib.Path:
    """A folder of this test run that all its worker processes share."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@contextlib.contextmanager
def one_worker(lock: pathlib.Path):
    """Lets one worker at a time in; the others wait."""
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def data_dir(shared_tmp, worker_id) -> pathlib.Path:
    """Prepared stand-in data of every data set."""
    from audiojax.data.prepare import prepare

    sets = names.modules("data.datasets")
    for name in reversed(sets) if worker_id == "gw1" else sets:  # Two workers share the work.
        prepare(name, "stand_in", None, shared_tmp / "data", strict=True)
    return shared_tmp / "data"


@pytest.fixture(scope="session")
def real_raw_dir(shared_tmp) -> pathlib.Path:
    """The real data laid out as released; tests that need it are skipped where it is absent."""
    if not (SHARED_DATA / "unpack.py").exists():
        pytest.skip("the real data is not on this machine")
    folder = shared_tmp / "raw"
    folder.mkdir(exist_ok=True)
    command = [sys.executable, SHARED_DATA / "unpack.py", folder, "--only", ",".join(names.modules("data.datasets"))]
    with one_worker(shared_tmp / ".raw.lock"):
        subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(shared_tmp):
    """What one test compiles, the next finds, also in the programs that it starts."""
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(shared_tmp / "xla")
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    mesh.start()


def config_of(study: str, row: str, **overrides):
    """A study's config with dotted overrides, such as model__hidden=(8,)."""
    config = importlib.import_module(f"configs.{study}").get_config(row)
    with config.unlocked():
        for key, value in overrides.items():
            *path, last = key.split("__")
            section = config
            for name in path:
                section = section[name]
            section[last] = value
    return config


def small_li(row: str = "fc2", **overrides):
    """A run of some seconds on the AudioSet stand-in."""
    sizes = {"fc1": {}, "fc2": {"model__hidden": (32,)}, "lstm": {"model__lstm": (16, 8), "model__dense": (16,)}}[row]
    small = dict(
        data__variant="stand_in",
        batch_size=64,
        eval_batch_size=256,
        epochs=0.0,
        steps=24,
        eval_every=8,
        run__steps_per_call=3,
    )
    return config_of("li_audioset", row, **{**small, **sizes, **overrides})


SMALL_MASKS = {"name": "spec_augment", "time_masks": 1, "time_width": 9, "frequency_masks": 1, "frequency_width": 5}


def small_gtzan(**overrides):
    """A run of some seconds on windows of the GTZAN stand-in."""
    small = dict(
        data__variant="stand_in",
        frontend__hop_samples=1024,
        frontend__mels=16,
        augment__features=(SMALL_MASKS, {"name": "mixup", "alpha": 1.0}),
        model__stages=(("conv", 8, 3, 2), ("pool", 2), ("average",)),
        batch_size=16,
        epochs=0.0,
        steps=6,
        eval_every=3,
    )
    return config_of("fagan_gtzan", "cnn1d_gap", **{**small, **overrides})


class Done(NamedTuple):
    """What a run of launch.py in this process left."""

    returncode: int
    stdout: str
    stderr: str


def launch_here(*arguments: str) -> Done:
    """Runs launch.py in this process, which saves the imports of a new one."""
    import launch

    argv, stdout, stderr, code = ["launch.py", *map(os.fsdecode, arguments)], io.StringIO(), io.StringIO(), 0
    printed = contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr)
    # The config's flag reads sys.argv.
    with flagsaver.flagsaver(), printed[0], printed[1], mock.patch.object(sys, "argv", argv):
        try:
            launch.main(command_line.parse(argv))
        except AudiojaxError as error:
            code = 1
            print(f"audiojax: {error}", file=stderr)
    flags.FLAGS.unparse_flags()
    return Done(code, stdout.getvalue(), stderr.getvalue())


def launch(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Starts launch.py in a process, as a user does."""
    inherited = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
    return subprocess.run(
        [sys.executable, "launch.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env=inherited | environment,
    )


SMALL_LI_FLAGS = [
    "--config=configs/li_audioset.py:fc2",
    "--config.data.variant=stand_in",
    "--config.model.hidden=32",
    "--config.batch_size=64",
    "--config.eval_batch_size=256",
    "--config.epochs=0",
    "--config.steps=24",
    "--config.eval_every=8",
    "--config.run.steps_per_call=3",
]


@pytest.fixture(scope="session")
def reference(data_dir, shared_tmp):
    """An uninterrupted run started by launch.py."""
    workdir = shared_tmp / "reference"
    with one_worker(shared_tmp / ".reference.lock"):
        if not (workdir / "result.json").exists():
            done = launch(*SMALL_LI_FLAGS, f"--workdir={workdir}", f"--data_dir={data_dir}")
            assert done.returncode == 0, done.stderr
    return workdir

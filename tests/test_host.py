"""Cores and memory from cgroups laid out as the kernel does; folders of a user without a home."""

import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

from audiojax import host
from tests.conftest import ROOT

HOST_BYTES = host.memory_bytes(pathlib.Path("/nonexistent"))  # without any cgroup
NO_LIMIT = 2**63 - 4096


def host_with(tmp_path, cgroup: str, mounts: list[str], files: dict[str, str]) -> pathlib.Path:
    """A host's root. mounts: lines of mountinfo from the mounted path on. files: below sys/fs/cgroup."""
    proc = tmp_path / "proc" / "self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text(cgroup)
    lines = ["22 27 0:21 / /proc rw,relatime - proc proc rw", *(f"31 23 0:28 {mount}" for mount in mounts)]
    (proc / "mountinfo").write_text("\n".join(lines) + "\n")
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return tmp_path


V1_MEMORY = "/ /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory"
V2 = "/ /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
MEMORY = {
    "version 1": ("4:memory:/job\n", [V1_MEMORY], {"memory/job/memory.limit_in_bytes": 3_000_000_000}, 3_000_000_000),
    "version 1, the parent's": (
        "9:name=systemd:/\n4:memory:/a/b\n0::/\n",
        [V1_MEMORY],
        {"memory/a/memory.limit_in_bytes": 2_000_000, "memory/a/b/memory.limit_in_bytes": NO_LIMIT},
        2_000_000,
    ),
    "version 1, none": ("4:memory:/job\n", [V1_MEMORY], {"memory/job/memory.limit_in_bytes": NO_LIMIT}, HOST_BYTES),
    "version 1, another controller's": (
        "4:memory:/\n5:pids:/job\n",
        ["/ /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids"],
        {"pids/job/memory.limit_in_bytes": 5},
        HOST_BYTES,
    ),
    "version 1, a container's own part": (
        "4:memory:/docker/0af\n",
        ["/docker/0af /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"],
        {"memory/memory.limit_in_bytes": 4_000_000},
        4_000_000,
    ),
    "version 2": ("0::/job.slice/job\n", [V2], {"job.slice/job/memory.max": 5_000_000}, 5_000_000),
    "version 2, the smallest on the way": (
        "0::/a/b/c\n",
        [V2],
        {"a/memory.max": 7_000_000, "a/b/memory.max": 6_000_000, "a/b/c/memory.max": "max"},
        6_000_000,
    ),
    "version 2, none": ("0::/job\n", [V2], {"job/memory.max": "max"}, HOST_BYTES),
    "version 2, larger than the host": ("0::/job\n", [V2], {"job/memory.max": 10**16}, HOST_BYTES),
    "version 2, a container that sees the host's path": (
        "0::/../../kubepods/pod1\n",
        [V2],
        {"memory.max": 8_000_000},
        8_000_000,
    ),
    "both, with a space in a path": (
        "4:memory:/\n0::/a b\n",
        [V1_MEMORY, "/ /sys/fs/cgroup/all\\040of\\040it rw - cgroup2 cgroup2 rw"],
        {"memory/memory.limit_in_bytes": NO_LIMIT, "all of it/a b/memory.max": 9_000_000},
        9_000_000,
    ),
    "no cgroup": ("", [], {}, HOST_BYTES),
}


@pytest.mark.parametrize("case", MEMORY)
def test_memory_is_the_least_of_the_host_s_and_its_cgroups(case, tmp_path):
    *tree, expected = MEMORY[case]
    assert host.memory_bytes(host_with(tmp_path, *tree)) == expected


V1_CPU = "/ /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
CORES = {
    "version 1": ("cpu,cpuacct", [V1_CPU], "cpu,cpuacct/job/cpu.cfs_quota_us", "150000", 2),
    "version 1, less than a core": ("cpu,cpuacct", [V1_CPU], "cpu,cpuacct/job/cpu.cfs_quota_us", "20000", 1),
    "version 1, none": ("cpu,cpuacct", [V1_CPU], "cpu,cpuacct/job/cpu.cfs_quota_us", "-1", 64),
    "version 2": ("", [V2], "job/cpu.max", "300000 100000", 3),
    "version 2, none": ("", [V2], "job/cpu.max", "max 100000", 64),
}


@pytest.mark.parametrize("case", CORES)
def test_cores_are_those_of_the_affinity_or_of_the_quota(case, tmp_path, monkeypatch):
    controllers, mounts, file, text, expected = CORES[case]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    files = {file: text} | ({file.replace("quota", "period"): "100000"} if "quota" in file else {})
    assert host.cores(host_with(tmp_path, f"3:{controllers}:/job\n", mounts, files)) == expected


def test_a_quota_adds_no_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5}, raising=False)
    assert host.cores(host_with(tmp_path, "0::/\n", [V2], {"cpu.max": "800000 100000"})) == 2


def test_accelerators_are_seen_by_their_device_nodes(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    (tmp_path / "dev" / "vfio").mkdir(parents=True)
    for name in ("null", "nvidiactl", "vfio/vfio"):
        (tmp_path / "dev" / name).touch()
    assert not host.has_accelerator(tmp_path)
    for name in ("nvidia0", "accel0", "kfd", "vfio/0"):
        (tmp_path / "dev" / name).touch()
        assert host.has_accelerator(tmp_path), name
        monkeypatch.setenv("JAX_PLATFORMS", "cpu")
        assert not host.has_accelerator(tmp_path)
        monkeypatch.delenv("JAX_PLATFORMS")
        (tmp_path / "dev" / name).unlink()


AS_NOBODY = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]
AS_NOBODY += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]  # It may read everything.
FOLDERS = (
    "import os, sys, pathlib; sys.dont_write_bytecode = True; from audiojax import host\n"
    "folder = host.user_folder('~/here/it/is', 'prepared data')\n"
    "folder.mkdir(parents=True); host.user_folder('~/here/it/is', 'prepared data'); print(folder)\n"
    "print(os.environ.get('XDG_CACHE_HOME'), os.environ.get('MPLCONFIGDIR'))\n"
)


@pytest.fixture
def open_tmp():
    """A folder that every user can write."""
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder).chmod(0o777)
        yield pathlib.Path(folder)


def as_nobody(code: str, open_tmp, **environment: str) -> subprocess.CompletedProcess:
    """Python code run by a user without an entry in passwd, with this environment alone."""
    if os.getuid():
        pytest.skip("only root can become another user")
    every = {"PATH": os.environ["PATH"], "TMPDIR": str(open_tmp), "JAX_PLATFORMS": "cpu"} | environment
    return subprocess.run(
        [*AS_NOBODY, sys.executable, "-c", code], cwd=ROOT, env=every, capture_output=True, text=True, timeout=240
    )


@pytest.mark.parametrize("home", [None, "/nonexistent", "/root"])
def test_without_a_home_folders_are_temporary_ones_which_is_said_once(home, open_tmp):
    done = as_nobody(FOLDERS, open_tmp, **({"HOME": home} if home else {}))
    assert done.returncode == 0, done.stderr
    own = open_tmp / "audiojax-12345"
    assert done.stdout.splitlines() == [f"{own}/here/it/is", f"{own}/.cache {own}/.config/matplotlib"]
    said = f"audiojax: ~/here/it/is cannot be written; prepared data go to {own}/here/it/is.\n"
    assert done.stderr == said
    assert own.stat().st_mode & 0o777 == 0o700


def test_a_folder_of_another_user_is_not_taken_for_this_one_s(open_tmp):
    (open_tmp / "audiojax-12345").mkdir()
    done = as_nobody(FOLDERS, open_tmp)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{open_tmp}/audiojax-12345-")


def test_a_home_that_can_be_written_is_used(open_tmp):
    (open_tmp / "home").mkdir(mode=0o777)
    (open_tmp / "home").chmod(0o777)
    done = as_nobody(FOLDERS, open_tmp, HOME=str(open_tmp / "home"))
    assert done.stdout.splitlines() == [str(open_tmp / "home/here/it/is"), "None None"], done.stderr


def test_data_that_can_only_be_read_are_used_and_caches_go_elsewhere(open_tmp):
    shared = open_tmp / "home" / "data"
    shared.mkdir(parents=True)
    code = "from audiojax import host; print(host.user_folder('~/data', 'prepared data'), host.user_folder('~/data'))"
    done = as_nobody(code, open_tmp, HOME=str(open_tmp / "home"))
    assert done.stdout == f"{shared} {open_tmp}/audiojax-12345/data\n" and not done.stderr, done.stderr


def test_librosa_and_matplotlib_start_without_a_home(open_tmp):
    code = (
        "import sys; sys.dont_write_bytecode = True\n"
        "from audiojax import frontend, mesh\n"
        "from audiojax.report import plots\n"
        "import jax, jax.numpy as jnp\n"
        "mesh.start(); print(jax.config.jax_compilation_cache_dir)\n"
        "mel = frontend.log_mel(jnp.zeros((1, 2048)), jnp.array([2048]), sample_rate_hz=8000, n_fft=512,"
        " hop_samples=256, mels=8, centred=True, reference='max', top_db=80.0)\n"
        "print(mel.shape)\n"
    )
    done = as_nobody(code, open_tmp)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.splitlines()[0] == f"{open_tmp}/audiojax-12345/.cache/audiojax/xla"


def test_host_is_read_without_jax():
    code = "import sys; from audiojax import host; host.cores(), host.memory_bytes(); print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

import os
import re
import socket
import subprocess
import sys

import jax
import pytest

from audiojax import host, mesh
from audiojax.errors import ConfigError
from tests.conftest import ROOT


def test_a_host_without_accelerators_gives_as_many_devices_as_asked_for_and_there():
    there = jax.devices()
    assert len(there) > 1
    assert mesh.devices(1) == there[:1]
    assert mesh.devices(2) == there[:2]
    assert mesh.devices(10 * len(there)) == there


def test_replicas_come_first_and_the_rest_shares_each_batch():
    assert dict(mesh.make_mesh(2, 3, cpu_devices=2).shape) == {"replica": 2, "data": 1}
    assert dict(mesh.make_mesh(3, 4, cpu_devices=2).shape) == {"replica": 1, "data": 2}
    with pytest.raises(ConfigError, match="batch_size=3 is no multiple of the 2 devices"):
        mesh.make_mesh(3, 3, cpu_devices=2)


def test_devices_of_one_host_share_what_this_process_may_use(monkeypatch):
    monkeypatch.setattr(host, "memory_bytes", lambda: 3_000_000_001)
    assert [mesh.memory_bytes(mesh.make_mesh(1, 2, n)) for n in (1, 2)] == [3_000_000_001, 1_500_000_000]


def in_processes(code: str, cpu_devices: int = 1, count: int = 2) -> list[subprocess.CompletedProcess]:
    """Runs Python code in processes that have joined; in it, `process` is the number of each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    joined = (
        "import jax\nfrom audiojax import errors, mesh\nmesh.start()\nprocess = jax.process_index()\n"
        f"{code}\njax.distributed.shutdown()\n"
    )
    shared = os.environ | {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count)}
    shared |= {"JAX_NUM_CPU_DEVICES": str(cpu_devices)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", joined],
            cwd=ROOT,
            env=shared | {"JAX_PROCESS_ID": str(process)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(count)
    ]
    outputs = [process.communicate(timeout=120) for process in started]
    return [subprocess.CompletedProcess([], p.returncode, *both) for p, both in zip(started, outputs)]


def test_the_first_process_s_word_reaches_all_and_so_do_differences_and_failures(tmp_path):
    code = f"""
import pathlib
told = {{"step": 7, "names": ["ä", None], "long": "x" * 5000}}
print(mesh.from_first(told if process == 0 else "another") == told, mesh.from_first(None))
mesh.agree("the flags", {{"a": 1, "b": {{"c": [1, 2]}}}})

def sentence(action):
    try:
        action()
    except errors.AudiojaxError as error:
        print(type(error).__name__, error)

own = {{"workdir": f"/scratch/{{process}}", "config": {{"batch_size": 64 >> process, "same": 1.5}}}}
sentence(lambda: mesh.agree("the flags", own | ({{"extra": True}} if process else {{}})))

def fail():
    (pathlib.Path({str(tmp_path)!r}) / f"by_{{process}}").touch()
    raise errors.DataError("the release is not there; put it there.")

sentence(lambda: mesh.by_first(fail))
mesh.by_first(lambda: (pathlib.Path({str(tmp_path)!r}) / f"again_by_{{process}}").touch())

def full():
    raise OSError(28, "No space left")

try:
    mesh.by_first(full)
except Exception as error:
    print(type(error).__name__, error)
"""
    done = in_processes(code)
    assert [one.returncode for one in done] == [0, 0], done
    lines = [[line for line in one.stdout.splitlines() if not line.startswith("[Gloo]")] for one in done]
    assert lines[0][:3] == lines[1][:3]
    assert lines[0][0] == "True None"
    assert lines[0][1] == (
        "ConfigError the flags must be the same on all processes: config.batch_size is 32 on process 1 and 64 on"
        ' process 0; extra is true on process 1 and absent on process 0; workdir is "/scratch/1" on process 1 and'
        ' "/scratch/0" on process 0.'
    )
    assert lines[0][2] == "DataError the release is not there; put it there."
    assert [of[3] for of in lines] == ["OSError [Errno 28] No space left", "AudiojaxError [Errno 28] No space left"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again_by_0", "by_0"]


def test_processes_put_their_blocks_into_global_arrays():
    code = """
import numpy as np
devices, whole = mesh.make_mesh(2, 4, 2), np.arange(3 * 2 * 4 * 5).reshape(3, 2, 4, 5)
block = mesh.local_block(whole.shape[:3], devices, mesh.TRAIN)
assert whole[block].size < whole.size
[out] = mesh.put_block([whole[block]], block, whole.shape[:3], devices, mesh.TRAIN)
assert out.shape == whole.shape
for shard in out.addressable_shards:
    np.testing.assert_array_equal(np.asarray(shard.data), whole[shard.index])
"""
    for done in in_processes(code, cpu_devices=2):
        assert done.returncode == 0, done.stderr


def test_alone_a_process_has_its_own_word():
    value = {"step": (1, 2)}
    assert mesh.from_first(value) is value
    mesh.agree("the flags", value)
    with pytest.raises(OSError, match="full"):
        mesh.by_first(lambda: (_ for _ in ()).throw(OSError("full")))


def test_devices_of_one_host_share_its_memory():
    one, two = (mesh.memory_bytes(mesh.make_mesh(1, 2, n)) for n in (1, 2))
    assert two == one // 2


PROCESSES = dict(JAX_COORDINATOR_ADDRESS="localhost:1234", JAX_NUM_PROCESSES="2", JAX_PROCESS_ID="1")
WRONG = [
    *(
        ({name: PROCESSES[name]}, f"must be set too: several processes need {', '.join(PROCESSES)}")
        for name in PROCESSES
    ),
    *((PROCESSES | {name: ""}, f"{name} must be set too") for name in PROCESSES),
    (PROCESSES | {"JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID=2 must be at least 0 and less than JAX_NUM_PROCESSES=2"),
    (PROCESSES | {"JAX_PROCESS_ID": "-1"}, "JAX_PROCESS_ID=-1 must be at least 0"),
    (PROCESSES | {"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES=two must be a whole number"),
    *(
        (PROCESSES | {"JAX_COORDINATOR_ADDRESS": a}, "must be HOST:PORT")
        for a in ("host", ":1", "host:x", "host:70000")
    ),
]


@pytest.mark.parametrize(("variables", "sentence"), WRONG)
def test_variables_of_several_processes_go_together(monkeypatch, variables, sentence):
    for name in PROCESSES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=sentence):
        mesh.processes_given()


def test_variables_of_several_processes_are_the_arguments(monkeypatch):
    for name, value in PROCESSES.items():
        monkeypatch.setenv(name, value)
    assert mesh.processes_given() == {"num_processes": 2, "process_id": 1}
    for name in PROCESSES:
        monkeypatch.delenv(name)
    assert mesh.processes_given() == {}


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"JAX_NUM_CPU_DEVICES": "0"}, "JAX_NUM_CPU_DEVICES=0 must be at least 1"),
        ({"JAX_NUM_CPU_DEVICES": "x"}, "JAX_NUM_CPU_DEVICES=x must be a whole number"),
        ({"SLURM_STEP_NUM_TASKS": "many"}, "SLURM_STEP_NUM_TASKS=many must be a whole number"),
        ({"JAX_NUM_PROCESSES": "2"}, "JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID must be set too"),
    ],
)
def test_an_invalid_environment_is_one_sentence(monkeypatch, variables, sentence):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=sentence):
        mesh.start()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("JAX_PLATFORMS", "none", "JAX cannot use its devices .*; check .*JAX_PLATFORMS=none"),
        ("JAX_NUM_CPU_DEVICES", "x", "JAX cannot start with .*JAX_NUM_CPU_DEVICES=x.*; correct or unset that"),
    ],
)
def test_what_jax_refuses_is_one_sentence(name, value, sentence):
    code = (
        "from audiojax import command_line, errors\n"
        "try:\n    command_line.import_jax(); from audiojax import mesh; mesh.start()\n"
        "except errors.ConfigError as error:\n    print(error)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {name: value}, capture_output=True, text=True)
    assert re.match(sentence, done.stdout), done

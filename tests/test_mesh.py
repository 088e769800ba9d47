import re

import jax
import pytest

from audiojax import mesh
from audiojax.errors import ConfigError
from tests.conftest import launch


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
        (
            {"JAX_PLATFORMS": "no_such_platform"},
            "JAX cannot use its devices .*; look at .*JAX_PLATFORMS=no_such_platform",
        ),
        ({"JAX_NUM_CPU_DEVICES": "0"}, "JAX_NUM_CPU_DEVICES=0 must be at least 1"),
        ({"JAX_NUM_CPU_DEVICES": "x"}, "JAX cannot start with .*JAX_NUM_CPU_DEVICES=x .*; correct or unset that"),
        ({"SLURM_STEP_NUM_TASKS": "many"}, "SLURM_STEP_NUM_TASKS=many must be a whole number"),
        ({"JAX_NUM_PROCESSES": "2"}, "JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID must be set too"),
    ],
)
def test_an_environment_that_cannot_be_is_one_sentence(tmp_path, variables, sentence):
    done = launch("--config=configs/li_audioset.py:fc1", f"--workdir={tmp_path}", f"--data_dir={tmp_path}", **variables)
    [line] = done.stderr.splitlines()
    assert done.returncode == 1 and re.match(f"audiojax: {sentence}", line), line

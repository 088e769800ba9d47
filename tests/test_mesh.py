import jax
import pytest

from audiojax import mesh
from audiojax.errors import ConfigError


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

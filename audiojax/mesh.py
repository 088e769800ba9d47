"""Devices, axes and shardings; start of the processes of a multi-host run."""

import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from audiojax.errors import AudiojaxError, ConfigError, RunError

REPLICATED = PartitionSpec()
STATE = PartitionSpec("replica")  # [replicas, ...]
TRAIN = PartitionSpec(None, "replica", "data")  # [steps, replicas, batch, ...]
EVALUATION = PartitionSpec("data")  # [batch, ...]


def start() -> None:
    """Readies JAX for a run: what it compiles is kept for the next start, each core can be a device of its own (else as
    JAX_NUM_CPU_DEVICES says), and the processes of one run join.

    The processes find each other by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, else as the cluster
    (Slurm, TPU pod) tells; a single process stays alone. JAX_COMPILATION_CACHE_DIR moves the cache.
    """
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path("~/.cache/audiojax/xla").expanduser()))
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", cores())
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        jax.distributed.initialize(
            num_processes=int(os.environ["JAX_NUM_PROCESSES"]), process_id=int(os.environ["JAX_PROCESS_ID"])
        )
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1 or "," in os.environ.get("TPU_WORKER_HOSTNAMES", ""):
        jax.distributed.initialize()


def on_first_process(action: Callable[[], int]) -> int:
    """Does what one process alone may do, and gives its number to all; where it raises an AudiojaxError, all do."""
    number, failure = 0, None
    if jax.process_index() == 0:
        try:
            number = action()
        except AudiojaxError as error:
            failure = error
    failed, number = multihost_utils.broadcast_one_to_all(np.array([failure is not None, number], np.int32)).tolist()
    if failed:
        raise failure or RunError("the first process stops; it says why.")
    return number


def cores() -> int:
    """Of this host, those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def devices(cpu_devices: int) -> list[jax.Device]:
    """All accelerators or, without them, the first `cpu_devices` of each host, as far as it has so many."""
    if jax.default_backend() != "cpu":
        return jax.devices()
    return [device for process in range(jax.process_count()) for device in jax.local_devices(process)[:cpu_devices]]


def make_mesh(replicas: int, batch_size: int, cpu_devices: int) -> Mesh:
    """`devices` as replica × data: as many replicas side by side as divide both, the rest share each batch.

    Raises:
      ConfigError: the batch cannot be cut evenly.
    """
    used = devices(cpu_devices)
    replica = math.gcd(replicas, len(used))
    data = len(used) // replica
    if batch_size % data:
        raise ConfigError(f"batch_size={batch_size} is no multiple of the {data} devices that share a batch.")
    auto = (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh((replica, data), ("replica", "data"), axis_types=auto, devices=used)


def memory_bytes(mesh: Mesh) -> int:
    """Of a device of this process; of the CPU its share of the host's."""
    host_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // len(mesh.local_devices)
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", host_bytes)


def put(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Arrays that every process holds whole become global arrays; each device receives only its shard."""
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, sharding, lambda i: x[i]), tree)


def local_block(shape: tuple[int, ...], mesh: Mesh, spec: PartitionSpec) -> tuple[slice, ...]:
    """The block of a global array that this process's devices hold."""
    indices = NamedSharding(mesh, spec).addressable_devices_indices_map(shape).values()
    spans = [[s.indices(n)[:2] for s, n in zip(index, shape)] for index in indices]
    return tuple(slice(min(a for a, _ in dim), max(b for _, b in dim)) for dim in zip(*spans))


def put_block(tree: Any, block: tuple[slice, ...], shape: tuple[int, ...], mesh: Mesh, spec: PartitionSpec) -> Any:
    """Arrays that hold this process's `local_block` of the leading axes `shape` become global arrays."""
    sharding = NamedSharding(mesh, spec)

    def put_one(x):
        def shard(index):
            leading = [
                slice(s.indices(n)[0] - b.start, s.indices(n)[1] - b.start) for s, n, b in zip(index, shape, block)
            ]
            return x[tuple(leading)]

        return jax.make_array_from_callback((*shape, *x.shape[len(shape) :]), sharding, shard)

    return jax.tree.map(put_one, tree)


def over_replicas(function: Callable, replicas: int) -> Callable:
    """`jax.vmap` over the leading axis; a single replica has the axis taken off and put back, which costs nothing."""
    if replicas > 1:
        return jax.vmap(function)

    def single(*args):
        out = function(*jax.tree.map(lambda x: x[0], args))
        return jax.tree.map(lambda x: x[None], out)

    return single

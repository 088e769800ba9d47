"""Devices, axes and shardings of a run, and what its processes do together."""

import json
import math
import os
import signal
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from audiojax import errors, host
from audiojax.errors import ConfigError
from audiojax.host import cores

PROCESSES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")  # all three, or none
REPLICATED = PartitionSpec()
STATE = PartitionSpec("replica")  # [replicas, ...]
TRAIN = PartitionSpec(None, "replica", "data")  # [steps, replicas, batch, ...]
EVALUATION = PartitionSpec("data")  # [batch, ...]


def start() -> None:
    """Prepares JAX: sets up the compilation cache, makes each CPU core a device, and joins the processes of a run.

    JAX_COMPILATION_CACHE_DIR moves the cache. JAX_NUM_CPU_DEVICES sets the number of CPU devices. Several processes
    need JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, except under Slurm and on TPU pods.

    Raises:
      ConfigError: an environment variable is invalid, the processes do not meet, or there is no device.
    """
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(host.user_folder("~/.cache/audiojax/xla")))
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", cores())
    elif (count := number("JAX_NUM_CPU_DEVICES")) < 1:
        raise ConfigError(f"JAX_NUM_CPU_DEVICES={count} must be at least 1; correct or unset it.")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    processes = processes_given()
    try:
        if processes or number("SLURM_STEP_NUM_TASKS", 1) > 1 or "," in os.environ.get("TPU_WORKER_HOSTNAMES", ""):
            jax.distributed.initialize(**processes)
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))  # JAX has replaced it.
        jax.devices()
    except (RuntimeError, AssertionError, ValueError) as error:
        given = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("JAX_") and value]
        reason = (str(error).strip().splitlines() or ["there is none"])[0].rstrip(".")
        raise ConfigError(
            f"JAX cannot use its devices ({reason[:300]}); check {', '.join(given) or 'its installation'}."
        ) from error


def processes_given() -> dict[str, int]:
    """Arguments of `jax.distributed.initialize` from the environment; {} if the variables are not set.

    Raises:
      ConfigError: some of the variables are missing or invalid.
    """
    missing = [name for name in PROCESSES if not os.environ.get(name)]
    if len(missing) == len(PROCESSES):
        return {}
    if missing:
        raise ConfigError(f"{', '.join(missing)} must be set too: several processes need {', '.join(PROCESSES)}.")
    address, count, process = os.environ[PROCESSES[0]], number(PROCESSES[1]), number(PROCESSES[2])
    name, _, port = address.rpartition(":")
    if not name or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ConfigError(f"{PROCESSES[0]}={address} must be HOST:PORT, such as localhost:1234.")
    if not 0 <= process < count:
        raise ConfigError(f"{PROCESSES[2]}={process} must be at least 0 and less than {PROCESSES[1]}={count}.")
    return {"num_processes": count, "process_id": process}


def number(variable: str, default: int = 0) -> int:
    """The value of an environment variable. Raises ConfigError if it is no whole number."""
    value = os.environ.get(variable) or str(default)
    try:
        return int(value)
    except ValueError as error:
        raise ConfigError(f"{variable}={value} must be a whole number; correct or unset it.") from error


def devices(cpu_devices: int) -> list[jax.Device]:
    """All accelerators; without any, up to `cpu_devices` CPU devices of each process."""
    if jax.default_backend() != "cpu":
        return jax.devices()
    return [device for process in range(jax.process_count()) for device in jax.local_devices(process)[:cpu_devices]]


def make_mesh(replicas: int, batch_size: int, cpu_devices: int) -> Mesh:
    """A mesh of all `devices`, with axes "replica" and "data".

    The replica axis has as many devices as divide both the replicas and all devices; the rest shares each batch.

    Raises:
      ConfigError: the batch cannot be divided evenly.
    """
    chosen = devices(cpu_devices)
    replica = math.gcd(replicas, len(chosen))
    data = len(chosen) // replica
    if batch_size % data:
        raise ConfigError(f"batch_size={batch_size} is no multiple of the {data} devices that share a batch.")
    auto = (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh((replica, data), ("replica", "data"), axis_types=auto, devices=chosen)


def memory_bytes(mesh: Mesh) -> int:
    """Bytes of memory of one device; a CPU device has an equal share of `host.memory_bytes`."""
    host_bytes = host.memory_bytes() // len(mesh.local_devices)
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", host_bytes)


def from_first(value: Any) -> Any:
    """Returns the first process's value, which JSON can hold, on every process."""
    return value if jax.process_count() == 1 else _gathered(value if jax.process_index() == 0 else None)[0]


def agree(what: str, value: dict) -> None:
    """Checks that a dictionary, which JSON can hold, is the same on all processes. what: its name for the message.

    Raises:
      ConfigError: it is not; every process raises this and lists the keys that differ.
    """
    if jax.process_count() == 1:
        return
    first, *others = map(_flat, _gathered(value))
    shown = lambda flat, key: json.dumps(flat[key]) if key in flat else "absent"
    differing = [
        f"{key} is {shown(other, key)} on process {process} and {shown(first, key)} on process 0"
        for process, other in enumerate(others, 1)
        for key in sorted(first.keys() | other.keys())
        if shown(first, key) != shown(other, key)
    ]
    if differing:
        raise ConfigError(f"{what} must be the same on all processes: {'; '.join(differing)}.")


def by_first(action: Callable[[], Any]) -> Any:
    """Calls `action` on the first process only; the others wait for it.

    Returns:
      the action's value, which JSON can hold, on every process.

    Raises:
      AudiojaxError: the action failed; every process raises the same type with the same message.
    """
    if jax.process_count() == 1:
        return action()
    value = failure = None
    if jax.process_index() == 0:
        try:
            value = action()
        except Exception as error:
            failure = error
    value, failed = from_first([value, failure and [type(failure).__name__, str(failure)]])
    if failure:
        raise failure
    if failed:
        name, sentence = failed
        raise getattr(errors, name, errors.AudiojaxError)(sentence)
    return value


def _gathered(value: Any) -> list[Any]:
    """The values of all processes."""
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(len(text), np.int32)).ravel()
    texts = multihost_utils.process_allgather(np.pad(text, (0, int(sizes.max()) - len(text))))
    return [json.loads(row[:size].tobytes()) for row, size in zip(texts, sizes)]


def _flat(tree: dict, prefix: str = "") -> dict[str, Any]:
    """Flattens nested dictionaries; keys become "optim.lr"."""
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key: value}
    return flat


def put(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Makes global arrays of a tree of arrays that every process holds in full. Each device gets only its shard."""
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, sharding, lambda i: x[i]), tree)


def local_block(shape: tuple[int, ...], mesh: Mesh, spec: PartitionSpec) -> tuple[slice, ...]:
    """The slices of a global array that this process's devices hold."""
    indices = NamedSharding(mesh, spec).addressable_devices_indices_map(shape).values()
    spans = [[s.indices(n)[:2] for s, n in zip(index, shape)] for index in indices]
    return tuple(slice(min(a for a, _ in dim), max(b for _, b in dim)) for dim in zip(*spans))


def put_block(tree: Any, block: tuple[slice, ...], shape: tuple[int, ...], mesh: Mesh, spec: PartitionSpec) -> Any:
    """Makes global arrays of a tree of arrays that hold this process's `local_block`. shape: of the leading axes."""
    sharding = NamedSharding(mesh, spec)
    shift = lambda s, size, start: slice(s.indices(size)[0] - start, s.indices(size)[1] - start)
    local = lambda index: tuple(shift(s, size, b.start) for s, size, b in zip(index, shape, block))
    put_one = lambda x: jax.make_array_from_callback(
        (*shape, *x.shape[len(shape) :]), sharding, lambda index: x[local(index)]
    )
    return jax.tree.map(put_one, tree)


def over_replicas(function: Callable, replicas: int) -> Callable:
    """`jax.vmap` over the leading axis. For one replica the axis is removed and added again, which costs nothing."""
    if replicas > 1:
        return jax.vmap(function)

    def single(*args):
        out = function(*jax.tree.map(lambda x: x[0], args))
        return jax.tree.map(lambda x: x[None], out)

    return single

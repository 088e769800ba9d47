"""Devices, axes and shardings; start of the processes of a multi-host run."""

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

PROCESSES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")  # of a run of several processes
REPLICATED = PartitionSpec()
STATE = PartitionSpec("replica")  # [replicas, ...]
TRAIN = PartitionSpec(None, "replica", "data")  # [steps, replicas, batch, ...]
EVALUATION = PartitionSpec("data")  # [batch, ...]


def start() -> None:
    """Readies JAX for a run: what it compiles is kept for the next start, each core can be a device of its own (else as
    JAX_NUM_CPU_DEVICES says), and the processes of one run join.

    The processes find each other by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, else as the cluster
    (Slurm, TPU pod) tells; a single process stays alone. JAX_COMPILATION_CACHE_DIR moves the cache.

    Raises:
      ConfigError: a variable of the environment that cannot be, processes that do not meet, or no device.
    """
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(host.user_folder("~/.cache/audiojax/xla")))
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", cores())
    elif (given := number("JAX_NUM_CPU_DEVICES")) < 1:
        raise ConfigError(f"JAX_NUM_CPU_DEVICES={given} must be at least 1; correct or unset it.")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    processes = processes_given()
    try:
        if processes or number("SLURM_STEP_NUM_TASKS", 1) > 1 or "," in os.environ.get("TPU_WORKER_HOSTNAMES", ""):
            jax.distributed.initialize(**processes)
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))  # JAX has put its own handler there.
        jax.devices()
    except (RuntimeError, AssertionError, ValueError) as error:
        given = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("JAX_") and value]
        why = (str(error).strip().splitlines() or ["none is found"])[0].rstrip(".")
        raise ConfigError(
            f"JAX cannot use its devices ({why[:300]}); look at {', '.join(given) or 'its installation'}."
        ) from error


def processes_given() -> dict[str, int]:
    """The arguments of `jax.distributed.initialize` that the environment gives; {} where it gives none.

    Raises:
      ConfigError: some of the variables are missing, or cannot be.
    """
    missing = [name for name in PROCESSES if not os.environ.get(name)]
    if len(missing) == len(PROCESSES):
        return {}
    if missing:
        raise ConfigError(f"{', '.join(missing)} must be set too: several processes need {', '.join(PROCESSES)}.")
    address, count, own = os.environ[PROCESSES[0]], number(PROCESSES[1]), number(PROCESSES[2])
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ConfigError(f"{PROCESSES[0]}={address} must be HOST:PORT, such as localhost:1234.")
    if not 0 <= own < count:
        raise ConfigError(f"{PROCESSES[2]}={own} must be at least 0 and less than {PROCESSES[1]}={count}.")
    return {"num_processes": count, "process_id": own}


def number(variable: str, otherwise: int = 0) -> int:
    """The whole number in a variable of the environment. Raises ConfigError where it is none."""
    value = os.environ.get(variable) or str(otherwise)
    try:
        return int(value)
    except ValueError as error:
        raise ConfigError(f"{variable}={value} must be a whole number; correct or unset it.") from error


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
    """Of a device of this process; of the CPU its share of what this process may use of the host's."""
    host_bytes = host.memory_bytes() // len(mesh.local_devices)
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", host_bytes)


def from_first(value: Any) -> Any:
    """The first process's JSON-able value, on every process."""
    return value if jax.process_count() == 1 else _gathered(value if jax.process_index() == 0 else None)[0]


def agree(what: str, value: dict) -> None:
    """Checks that a JSON-able dictionary is the same on all processes.

    Raises:
      ConfigError: on every process, with each key that differs.
    """
    if jax.process_count() == 1:
        return
    first, *others = map(_flat, _gathered(value))
    shown = lambda of, key: json.dumps(of[key]) if key in of else "absent"
    differing = [
        f"{key} is {shown(other, key)} on process {process} and {shown(first, key)} on process 0"
        for process, other in enumerate(others, 1)
        for key in sorted(first.keys() | other.keys())
        if shown(first, key) != shown(other, key)
    ]
    if differing:
        raise ConfigError(f"{what} must be the same on all processes: {'; '.join(differing)}.")


def by_first(action: Callable[[], Any]) -> Any:
    """Does on the first process alone what is done once for all; the others go on after it.

    Returns:
      the action's JSON-able value, on every process.

    Raises:
      AudiojaxError: on every process, where it fails on the first: of the same type, with the same sentence.
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
    """A JSON-able value of each process."""
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(len(text), np.int32)).ravel()
    texts = multihost_utils.process_allgather(np.pad(text, (0, int(sizes.max()) - len(text))))
    return [json.loads(row[:size].tobytes()) for row, size in zip(texts, sizes)]


def _flat(tree: dict, prefix: str = "") -> dict[str, Any]:
    """A dictionary of dictionaries as one, with keys such as "optim.lr"."""
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key: value}
    return flat


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

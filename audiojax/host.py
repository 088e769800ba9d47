"""Resources of the host: cores, memory, accelerators and writable folders. Does not import JAX.

Limits of containers are read from the cgroup (version 1 or 2) of this process and from all visible parents.
"""

import contextlib
import functools
import math
import os
import pathlib
import re
import stat
import sys
import tempfile
from collections.abc import Iterator

from audiojax.errors import RunError

ROOT = pathlib.Path("/")  # tests use another folder
ACCELERATORS = ("dev/nvidia[0-9]*", "dev/kfd", "dev/accel*", "dev/vfio/[0-9]*")  # GPUs of two vendors, TPUs


def has_accelerator(root: pathlib.Path = ROOT) -> bool:
    """Whether JAX may use a GPU or TPU: its device node exists, and JAX_PLATFORMS is not "cpu"."""
    return os.environ.get("JAX_PLATFORMS") != "cpu" and any(any(root.glob(node)) for node in ACCELERATORS)


def cores(root: pathlib.Path = ROOT) -> int:
    """Number of cores of this process's affinity, or fewer where a cgroup limits CPU time (rounded up)."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in cgroup_folders("cpu", root):
        version_1 = [*read_words(folder / "cpu.cfs_quota_us"), *read_words(folder / "cpu.cfs_period_us")]
        limit = read_words(folder / "cpu.max") or version_1  # [quota, period]
        if len(limit) == 2 and all(word.isdecimal() for word in limit):  # No limit is "max" or -1.
            available = min(available, max(1, math.ceil(int(limit[0]) / int(limit[1]))))
    return available


def memory_bytes(root: pathlib.Path = ROOT) -> int:
    """Bytes of the host's memory, or fewer where a cgroup limits them."""
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for folder in cgroup_folders("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            # No limit is "max" or a number that no host has.
            limits = [int(word) for word in read_words(folder / name) if word.isdecimal()]
            available = min([available, *limits])
    return available


def cgroup_folders(controller: str, root: pathlib.Path) -> Iterator[pathlib.Path]:
    """Folders of this process's cgroups for a controller ("cpu" or "memory"), each followed by its parents."""
    cgroups = {}  # path by controller; "" stands for version 2
    for line in read_lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        cgroups |= dict.fromkeys(controllers.split(","), pathlib.PurePosixPath(path))
    for line in read_lines(root / "proc/self/mountinfo"):
        fields, _, kind = line.partition(" - ")
        mounted, mount_point = (unescaped(field) for field in fields.split(" ")[3:5])
        kind, _, options = kind.split(" ", 2)
        name = {"cgroup": controller, "cgroup2": ""}.get(kind)
        if name not in cgroups or (kind == "cgroup" and controller not in options.split(",")):
            continue
        top = root / mount_point.lstrip("/")
        # A container may see only its own cgroup, mounted at another path than on the host.
        path = cgroups[name].relative_to(mounted) if cgroups[name].is_relative_to(mounted) else pathlib.PurePosixPath()
        inside = pathlib.PurePosixPath() if ".." in path.parts else path
        yield from (top / part for part in (inside, *inside.parents))


def read_lines(path: pathlib.Path) -> list[str]:
    """The lines of a file, [] if it cannot be read."""
    try:
        return path.read_text().splitlines()
    except (OSError, ValueError):
        return []


def read_words(path: pathlib.Path) -> list[str]:
    """The words of a file's first line, [] if it cannot be read."""
    return " ".join(read_lines(path)[:1]).split()


def unescaped(field: str) -> str:
    """Replaces the octal escapes of mountinfo, such as \\040 for a space."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


@functools.cache
def user_folder(usual: str, holds: str = "") -> pathlib.Path:
    """The folder `usual` ("~" is the home folder) if it can be written or made, else a temporary one.

    Args:
      holds: what the folder holds, if that is data. Then a folder that can only be read is accepted too, and a sentence
        on stderr says where the data go instead.
    """
    path = expanded(usual)
    if path and (writable(path) or (holds and os.path.isdir(path) and allows(path, os.R_OK))):
        return path
    instead = temporary_folder() / usual.removeprefix("~/").lstrip("/")
    if holds:
        print(f"audiojax: {usual} cannot be written; {holds} go to {instead}.", file=sys.stderr)
    return instead


def expanded(path: str) -> pathlib.Path | None:
    """A path with "~" replaced by the home folder; None if the user has none."""
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:
        return None


def writable(folder: pathlib.Path) -> bool:
    """Whether files can be made in a folder; if it does not exist, whether it can be made."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    return os.path.isdir(existing) and allows(existing, os.W_OK)


def allows(folder: pathlib.Path, mode: int) -> bool:
    """Whether this process, with its capabilities, has an access mode of `os.access` in a folder."""
    return os.access(folder, mode | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


@functools.cache
def temporary_folder() -> pathlib.Path:
    """A folder for temporary files that only this user can write, the same at every start if possible.

    Raises:
      RunError: no folder for temporary files can be written.
    """
    try:
        folder = pathlib.Path(tempfile.gettempdir()) / f"audiojax-{os.getuid()}"
        with contextlib.suppress(FileExistsError):  # A file or link has this name; it is checked below.
            folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022:
            return folder
        return pathlib.Path(tempfile.mkdtemp(prefix=f"{folder.name}-"))
    except OSError as error:
        raise RunError(
            f"neither the home folder nor the temporary folder can be written ({error}); set HOME or TMPDIR to one that"
            " can."
        ) from error


def set_cache_folders() -> None:
    """Sets XDG_CACHE_HOME and MPLCONFIGDIR to temporary folders if the usual ones cannot be written.

    librosa, numba and matplotlib read these variables when they are imported; librosa fails without a writable folder.
    """
    caches, settings = (os.environ.get(f"XDG_{kind}_HOME") or f"~/.{kind.lower()}" for kind in ("CACHE", "CONFIG"))
    usual = {"XDG_CACHE_HOME": caches, "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR") or f"{settings}/matplotlib"}
    for variable, folder in usual.items():
        with contextlib.suppress(RunError):  # What needs the folder reports it.
            if (instead := user_folder(folder)) != expanded(folder):
                instead.mkdir(parents=True, exist_ok=True)
                os.environ[variable] = str(instead)

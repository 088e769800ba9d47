"""What this process may use of its host: cores, memory, and folders that it can write. Read without JAX.

A container's limits are those of its cgroup (version 1 or 2) and of every cgroup around it that can be seen.
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

ROOT = pathlib.Path("/")  # where /proc is and what it names; another folder in tests


def cores(root: pathlib.Path = ROOT) -> int:
    """Cores that this process may use: those of its affinity, or fewer, rounded up, where a cgroup limits CPU time."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in cgroup_folders("cpu", root):
        version_1 = [*read_words(folder / "cpu.cfs_quota_us"), *read_words(folder / "cpu.cfs_period_us")]
        limit = read_words(folder / "cpu.max") or version_1  # CPU time in a period
        if len(limit) == 2 and all(word.isdecimal() for word in limit):  # Without a limit: "max", or -1.
            available = min(available, max(1, math.ceil(int(limit[0]) / int(limit[1]))))
    return available


def memory_bytes(root: pathlib.Path = ROOT) -> int:
    """Memory that this process may use: the host's, or less where a cgroup limits it."""
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for folder in cgroup_folders("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            # Without a limit: "max", or more than a host has.
            limits = [int(word) for word in read_words(folder / name) if word.isdecimal()]
            available = min([available, *limits])
    return available


def cgroup_folders(controller: str, root: pathlib.Path) -> Iterator[pathlib.Path]:
    """The folders of this process's cgroups that may limit "cpu" or "memory", each followed by those around it."""
    own = {}  # controller, "" of version 2 -> path of the cgroup
    for line in read_lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), pathlib.PurePosixPath(path))
    for line in read_lines(root / "proc/self/mountinfo"):
        fields, _, kind = line.partition(" - ")
        mounted, mount_point = (unescaped(field) for field in fields.split(" ")[3:5])
        kind, _, options = kind.split(" ", 2)
        name = {"cgroup": controller, "cgroup2": ""}.get(kind)
        if name not in own or (kind == "cgroup" and controller not in options.split(",")):
            continue
        top = root / mount_point.lstrip("/")
        # A container may see its own cgroup alone, mounted under another path than the host's.
        inside = own[name].relative_to(mounted) if own[name].is_relative_to(mounted) else pathlib.PurePosixPath()
        inside = pathlib.PurePosixPath() if ".." in inside.parts else inside
        yield from (top / part for part in (inside, *inside.parents))


def read_lines(path: pathlib.Path) -> list[str]:
    """The lines of a file, none where it cannot be read."""
    try:
        return path.read_text().splitlines()
    except (OSError, ValueError):
        return []


def read_words(path: pathlib.Path) -> list[str]:
    """The words of a file's first line, none where it cannot be read."""
    return " ".join(read_lines(path)[:1]).split()


def unescaped(field: str) -> str:
    """A path as mountinfo has it: a space is \\040."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


@functools.cache
def user_folder(usual: str, holds: str = "") -> pathlib.Path:
    """The folder `usual`, "~" being the user's home, where it can be written or made, else one of this user in the
    system's folder of temporary files.

    holds: of data, what it is: then a folder that can only be read is used as well, and one sentence on stderr says
    where it goes instead.
    """
    path = expanded(usual)
    if path and (writable(path) or (holds and os.path.isdir(path) and allows(path, os.R_OK))):
        return path
    instead = temporary_folder() / usual.removeprefix("~/").lstrip("/")
    if holds:
        print(f"audiojax: {usual} cannot be written here; {holds} go to {instead}.", file=sys.stderr)
    return instead


def expanded(path: str) -> pathlib.Path | None:
    """A path with "~" as the user's home; None where the user has none."""
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:
        return None


def writable(folder: pathlib.Path) -> bool:
    """Whether files can be made in a folder, or the folder where it is absent."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    return os.path.isdir(existing) and allows(existing, os.W_OK)


def allows(folder: pathlib.Path, mode: int) -> bool:
    """Whether this process, with its capabilities, may do what os.access calls `mode` in a folder."""
    return os.access(folder, mode | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


@functools.cache
def temporary_folder() -> pathlib.Path:
    """A folder that this user alone can write, the same at every start where nobody else has taken its name.

    Raises:
      RunError: there is no folder for temporary files.
    """
    try:
        own = pathlib.Path(tempfile.gettempdir()) / f"audiojax-{os.getuid()}"
        with contextlib.suppress(FileExistsError):  # A file or link; the next lines see that.
            own.mkdir(mode=0o700, exist_ok=True)
        status = own.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022:
            return own
        return pathlib.Path(tempfile.mkdtemp(prefix=f"{own.name}-"))
    except OSError as error:
        raise RunError(
            f"neither the home folder nor a folder for temporary files can be written ({error}); set HOME or TMPDIR to"
            " one that can."
        ) from error


def set_cache_folders() -> None:
    """Sets XDG_CACHE_HOME and MPLCONFIGDIR, where the usual folders cannot be written, to ones that can.

    librosa, its compiler numba and matplotlib read them as they are imported, and librosa cannot do without.
    """
    caches, settings = (os.environ.get(f"XDG_{kind}_HOME") or f"~/.{kind.lower()}" for kind in ("CACHE", "CONFIG"))
    usual = {"XDG_CACHE_HOME": caches, "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR") or f"{settings}/matplotlib"}
    for variable, folder in usual.items():
        with contextlib.suppress(RunError):  # Who needs the folder says so.
            if (instead := user_folder(folder)) != expanded(folder):
                instead.mkdir(parents=True, exist_ok=True)
                os.environ[variable] = str(instead)

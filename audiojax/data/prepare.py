"""Prepares data sets: from a release, or a synthesiser, to files that training reads."""

import contextlib
import fcntl
import pathlib
import shutil
import sys

import tensorflow_datasets as tfds

from audiojax import durable, names
from audiojax.data.prepared import DESCRIPTION, VERSION, find, folder_of
from audiojax.data.release import find_release
from audiojax.errors import DataError


def prepare(name: str, variant: str, raw_dir: pathlib.Path | None, data_dir: pathlib.Path, strict: bool) -> None:
    """Prepares a data set in `data_dir`. Continues an interrupted preparation.

    Args:
      variant: "released" or "stand_in".
      raw_dir: folder of releases, in which that of this data set is NAME. None: downloads the release.
      strict: whether unreadable files are an error. Otherwise they are left out.

    Raises:
      ConfigError: an unknown name or variant. DataError: the release is absent, or unreadable.
    """
    builder_class = names.data_set(name)
    names.choose("data.variant", variant, builder_class.builder_configs)
    release = find_release(name, raw_dir) if variant == "released" else None
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    data_dir.mkdir(parents=True, exist_ok=True)
    with lock(data_dir / f".{name}-{variant}.lock"):
        if find(name, variant, data_dir):
            return  # Another process has prepared it.
        target = folder_of(name, variant, data_dir)
        for attempt in target.parent.glob("*incomplete*"):
            shutil.rmtree(attempt)
        if target.exists():
            raise DataError(
                f"{target} holds other files than prepared data; move it away, or choose another --data_dir."
            )
        builder = builder_class(config=variant, data_dir=data_dir, raw_dir=release, strict=strict)
        try:
            builder.download_and_prepare()
            durable.sync_tree(target.parent)
        except (tfds.download.DownloadError, OSError) as error:
            if release or variant == "stand_in":
                raise DataError(f"{name} cannot be prepared in {data_dir} ({error}).") from error
            older = [path.parent.name for path in target.parent.glob(f"*/{DESCRIPTION}")]
            versions = f" in version {VERSION}, only in {', '.join(older)}," if older else ""
            raise DataError(
                f"{name} is not prepared in {data_dir}{versions} and cannot be downloaded ({type(error).__name__}); put"
                f" its release in DIR/{name} and pass --raw_dir=DIR, or try the synthesised"
                " --config.data.variant=stand_in."
            ) from error


@contextlib.contextmanager
def lock(path: pathlib.Path):
    """Lets one process at a time prepare a data set. The others on the same file system wait."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

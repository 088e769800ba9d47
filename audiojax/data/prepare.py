"""From a release to a prepared data set: TFDS writes the records, then an index and arrays are drawn from them."""

import contextlib
import fcntl
import importlib
import pathlib
import pkgutil
import shutil
import sys

import numpy as np
import tensorflow_datasets as tfds

from audiojax.data import datasets, pipeline
from audiojax.data.prepared import Prepared, find
from audiojax.errors import ConfigError, DataError

# Splits up to this size also become arrays, from which `resident` trains without TensorFlow.
ARRAY_LIMIT_BYTES = 8 << 30


def prepare(name: str, variant: str, raw_dir: pathlib.Path | None, data_dir: pathlib.Path, strict: bool) -> None:
    """Prepares data set `name` in `data_dir`; whatever an interrupted attempt left there is removed first.

    Args:
      variant: "released" or "stand_in".
      raw_dir: folder of releases; that of this data set is raw_dir/NAME. None: the release is downloaded.
      strict: refuse a release with anything unreadable, instead of leaving that out.

    Raises:
      ConfigError: unknown name or variant.
      DataError: the release is absent, or `strict` and not wholly readable.
    """
    builder_class = find_builder(name)
    if variant not in builder_class.builder_configs:
        raise ConfigError(f"data.variant={variant!r} is unknown; variants: {', '.join(builder_class.builder_configs)}.")
    release = find_release(name, raw_dir) if variant == "released" else None
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    data_dir.mkdir(parents=True, exist_ok=True)
    with lock(data_dir / f".{name}-{variant}.lock"):
        if find(name, variant, data_dir):
            return  # Another process was faster.
        for attempt in (data_dir / name / variant).glob("*"):
            shutil.rmtree(attempt)
        builder = builder_class(config=variant, data_dir=data_dir, raw_dir=release)
        try:
            builder.download_and_prepare()
        except (tfds.download.DownloadError, OSError) as error:
            if release:
                raise DataError(f"{name} cannot be prepared in {data_dir} ({error}).") from error
            reason = type(error).__name__
            raise DataError(
                f"{name} is not prepared in {data_dir} and cannot be downloaded ({reason}); put its release in"
                f" DIR/{name} and pass --raw_dir=DIR, or try the synthesised --config.data.variant=stand_in."
            ) from error
        folder = pathlib.Path(builder.data_dir)
        if builder.skipped and strict:
            shutil.rmtree(folder)
            refuse_skipped(name, builder.skipped)
        for split in builder.info.splits:
            export(builder, folder, split)
        Prepared(
            folder=folder,
            name=name,
            variant=variant,
            input=builder.input_name,
            input_shape=builder.input_shape,
            input_dtype=np.dtype(builder.input_dtype).name,
            sample_rate_hz=builder.sample_rate_hz,
            multi_label=builder.multi_label,
            classes=builder.classes(),
            examples={split: info.num_examples for split, info in builder.info.splits.items()},
            released_examples=builder.released_examples if variant == "released" else {},
            skipped=[list(item) for item in builder.skipped],
        ).save()


def refuse_skipped(name: str, skipped: list) -> None:
    """Raises DataError that names the first of what is unreadable."""
    (what, why), more = skipped[0], len(skipped) - 1
    others = f", and {more} more like it" if more else ""
    raise DataError(
        f"{name}: {what}: {why}{others}; repair the release, or leave such files out with --config.data.strict=False."
    )


def find_builder(name: str):
    known = [
        module.name for module in pkgutil.iter_modules(datasets.__path__) if module.name not in ("base", "synthesiser")
    ]
    if name not in known:
        raise ConfigError(f"data.name={name!r} is unknown; data sets: {', '.join(known)}.")
    return importlib.import_module(f"audiojax.data.datasets.{name}").Builder


def find_release(name: str, raw_dir: pathlib.Path | None) -> pathlib.Path | None:
    if raw_dir is None:
        return None
    release = raw_dir / name
    if not release.is_dir():
        raise DataError(
            f"--raw_dir={raw_dir} has no folder {name}; put the release there, or leave the flag out to download it."
        )
    return release


@contextlib.contextmanager
def lock(path: pathlib.Path):
    """One process prepares a data set; others on the same file system wait for it."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def export(builder, folder: pathlib.Path, split: str) -> None:
    """Draws the index and, up to ARRAY_LIMIT_BYTES, the inputs of a split from its records."""
    records = pipeline.Records(folder, split)
    shape = (len(records), *builder.input_shape)
    dtype = np.dtype(builder.input_dtype)
    columns = {"id": [], "group": [], "label": [], "length": []}
    inputs = None
    if np.prod(shape, dtype=np.int64) * dtype.itemsize <= ARRAY_LIMIT_BYTES:
        inputs = np.lib.format.open_memmap(folder / f"{split}.{builder.input_name}.npy", "w+", dtype, shape)
    for start in range(0, len(records), 256):
        rows = np.arange(start, min(start + 256, len(records)))
        batch = records.read(rows)
        if inputs is not None:
            inputs[rows] = batch[builder.input_name]
        for name, column in columns.items():
            column.append(batch[name])
    if inputs is not None:
        inputs.flush()
    columns = {name: np.concatenate(column) for name, column in columns.items()}
    np.savez(
        folder / f"{split}.index.npz",
        id=np.char.decode(columns["id"].astype("S")),
        group=np.char.decode(columns["group"].astype("S")),
        label=columns["label"],
        length=columns["length"].astype(np.int32),
    )

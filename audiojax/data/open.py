"""From config.data to prepared clips, their parts, and the source that feeds them to the mesh."""

import importlib
import os
import pathlib

import jax

from audiojax import console, names
from audiojax import mesh as meshes
from audiojax.data import prepared as prepared_data
from audiojax.data import release, resident
from audiojax.data.protocol import check_leaks, make_parts
from audiojax.data.windows import Part
from audiojax.errors import DataError


def open_data(config, raw_dir: pathlib.Path | None, data_dir: pathlib.Path) -> prepared_data.Prepared:
    """The data set of `config.data`. The first process prepares it where it is not prepared yet.

    Raises:
      DataError: it cannot be prepared, is damaged, or was prepared from another release.
    """
    name, variant, strict = config.data.name, config.data.variant, config.data.strict

    def make_ready():
        source = release.find_release(name, raw_dir) if variant == "released" else None
        prepared = prepared_data.find(name, variant, data_dir)
        if prepared is None:
            console.say(f"preparing {name} ({variant}) in {data_dir}")
            prepare = import_tensorflow("audiojax.data.prepare", f"{name} ({variant}) is not prepared in {data_dir}")
            prepare.prepare(name, variant, raw_dir, data_dir, strict)
        elif source:
            release.check_release(prepared, source)
        if prepared:
            prepared.verify(whole=False)

    meshes.by_first(make_ready)
    prepared = prepared_data.find(name, variant, data_dir)
    meshes.agree(f"--data_dir={data_dir}", {name: "prepared" if prepared else "absent"})
    if prepared.skipped and strict:
        what, why = prepared.skipped[0]
        raise DataError(
            f"{prepared.folder} was prepared without {len(prepared.skipped)} unreadable items (first: {what}: {why});"
            " repair the release and delete that folder, or pass --config.data.strict=False."
        )
    for what, why in prepared.skipped:
        console.say(f"left out: {what}: {why}")
    for change, count in prepared.changes.items():
        console.say(f"{name}: {count:,} examples {change}")
    for split, count in prepared.absent().items():
        total = prepared.released_examples[split]
        console.say(
            f"{name} {split}: {total - count:,} of the release's {total:,} examples are here, {count:,} are absent"
        )
    return prepared


def open_parts(config, data, prepared: prepared_data.Prepared) -> tuple[dict[str, Part], list[str], list[str]]:
    """Cuts the data by the config's protocol and checks the cut for leaks.

    Args:
      data: the section `data` of the config, or what takes its place.

    Returns:
      the parts; names of the classes; sentences on what is odd.

    Raises:
      ConfigError: an unknown protocol, or a cut that cannot be made. DataError: the cut leaks, or a part is empty.
    """
    names.choose("protocol", config.protocol, data.protocols)
    protocol = data.protocols[config.protocol]
    parts, classes, notes = make_parts(prepared, protocol, data)
    apart = ("segment",) if protocol.get("unit") == "segment" else ("id",)
    check_leaks(parts, ("id", "group") if config.protocol == "honest" else apart)
    for note in notes:
        console.say(note)
    sizes = ", ".join(f"{name} {len(part.id):,} ({part.split})" for name, part in parts.items())
    console.say(f"{config.study} {config.row}, {config.protocol} protocol: {sizes}")
    return parts, classes, notes


def open_source(config, prepared: prepared_data.Prepared, parts: dict[str, Part], mesh: jax.sharding.Mesh):
    """The source that run.source asks for; "auto" is "resident" where the data fits in device memory."""
    kind = config.run.source
    pad = config.data.segment.pad if any((part.length < part.steps).any() for part in parts.values()) else "none"
    # Hosts may differ in memory, but all must choose the same source.
    if kind == "resident" or (kind == "auto" and meshes.by_first(lambda: resident.fits(prepared, parts, mesh))):
        return resident.Resident(prepared, parts, pad, mesh)
    pipeline = import_tensorflow("audiojax.data.pipeline", "run.source=stream reads by tf.data")
    return pipeline.Stream(prepared, parts, pad, mesh)


def import_tensorflow(module: str, reason: str):
    """Imports a module that needs TensorFlow. Raises DataError, which begins with `reason`, where it has none."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no notes on this machine's instructions
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(f"{reason}, which needs TensorFlow, and that cannot be imported here ({error}).") from error

"""Protocols: who is in train, valid and test, and the check that nobody is in two of them."""

import itertools
from typing import NamedTuple

import numpy as np

from audiojax.data.prepared import Prepared
from audiojax.errors import ConfigError, DataError


class Part(NamedTuple):
    """One of train, valid and test: rows of a released split, with their index.

    split: the released split. rows: int64 [N] into it. id, group: str [N].
    label: int32 [N] or multi-hot uint8 [N, classes], over `classes` of `parts`. length: int32 [N].
    """

    split: str
    rows: np.ndarray
    id: np.ndarray
    group: np.ndarray
    label: np.ndarray
    length: np.ndarray


def select(part: Part, chosen: np.ndarray) -> Part:
    """The examples of a part at `chosen`, a mask or indices."""
    return Part(part.split, *(field[chosen] for field in part[1:]))


def make_parts(prepared: Prepared, protocol, seed: int, excluded: tuple[str, ...]) -> tuple[dict[str, Part], list[str]]:
    """Cuts a prepared data set into {"train", "valid", "test"}; also returns the names of the classes left.

    Args:
      protocol: mapping with the released split behind `train`, `valid` and `test`. Where train and valid come from
        the same one, `valid_fraction` of it is held out for valid, by `unit`: "id" (single examples) or "group".
      seed: of that cut.
      excluded: classes whose examples are left out of every part.

    Raises:
      ConfigError: an unknown class or unit. DataError: a released split that is not prepared.
    """
    missing = sorted({protocol[name] for name in ("train", "valid", "test")} - set(prepared.examples))
    if missing:
        raise DataError(
            f"{prepared.folder} has no split {', '.join(missing)}, which this protocol needs; it has"
            f" {', '.join(prepared.examples)}: complete the release, or choose the other --config.protocol."
        )
    unknown = sorted(set(excluded) - set(prepared.classes))
    if unknown:
        raise ConfigError(f"data.exclude_classes names {unknown[0]!r}, which {prepared.name} does not have.")
    classes = [name for name in prepared.classes if name not in excluded]
    whole = {protocol[name]: None for name in ("train", "valid", "test")}
    for split in whole:
        index = prepared.index(split)
        whole[split] = keep_classes(Part(split, np.arange(len(index.id)), *index), prepared.classes, classes)

    parts = {name: whole[protocol[name]] for name in ("train", "valid", "test")}
    if protocol["train"] == protocol["valid"]:
        held_out = hold_out(parts["train"], protocol["unit"], protocol["valid_fraction"], seed)
        parts["valid"], parts["train"] = select(parts["train"], held_out), select(parts["train"], ~held_out)
    for name, part in parts.items():
        if not len(part.id):
            raise DataError(f"{name} is empty: {prepared.folder} has too few examples in {part.split}.")
    return parts, classes


def keep_classes(part: Part, classes: list[str], kept: list[str]) -> Part:
    """Leaves out the examples of other classes and renumbers the labels (single-label data only)."""
    if kept == classes:
        return part
    renumbered = np.array([kept.index(name) if name in kept else -1 for name in classes], np.int32)
    part = part._replace(label=renumbered[part.label])
    return select(part, part.label >= 0)


def hold_out(part: Part, unit: str, fraction: float, seed: int) -> np.ndarray:
    """Mask of the examples to hold out: `fraction` of each class's units, rounded, whole units, never all."""
    if unit not in ("id", "group"):
        raise ConfigError(f"a protocol's unit is {unit!r}; it must be 'id' or 'group'.")
    units, first, membership = np.unique(getattr(part, unit), return_index=True, return_inverse=True)
    strata = part.label[first] if part.label.ndim == 1 else np.zeros(len(units), np.int32)
    rng = np.random.default_rng((seed, 0x5917))
    held = np.zeros(len(units), bool)
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        wanted = min(round(fraction * len(members)), len(members) - 1)
        held[members[:wanted]] = True
    return held[membership]


def class_shares(part: Part, classes: int) -> np.ndarray:
    """Share of the examples that carry each class: float [classes]."""
    if part.label.ndim == 2:
        return part.label.mean(0)
    return np.bincount(part.label, minlength=classes) / len(part.label)


def check_leaks(parts: dict[str, Part], by_group: bool) -> None:
    """Raises DataError that names the ids (and groups, if `by_group`) which stand in two of the parts.

    valid and test may be the very same examples only where a protocol without groups says so: some studies chose
    on their test split, and that is what their `paper` protocol repeats.
    """
    for field, checked in (("id", True), ("group", by_group)):
        if not checked:
            continue
        for one, other in itertools.combinations(parts, 2):
            if not by_group and parts[one] is parts[other]:
                continue
            shared = np.intersect1d(getattr(parts[one], field), getattr(parts[other], field))
            if len(shared):
                names = ", ".join(shared[:5]) + (", …" if len(shared) > 5 else "")
                raise DataError(
                    f"{one} and {other} share {len(shared)} {field}s ({names}): the split leaks; mend the data set or"
                    " the protocol."
                )

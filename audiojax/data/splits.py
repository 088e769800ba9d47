"""Protocols: who is in train, valid and test, and the check that nobody is in two of them."""

import hashlib
import itertools
import re
from typing import Any, NamedTuple

import numpy as np

from audiojax import host
from audiojax.data import labels, segments, store
from audiojax.data.prepared import Prepared
from audiojax.errors import ConfigError, DataError

PARTS = ("train", "valid", "test")
HIDDEN = "unverified"  # subset of the clips whose labels `hide` hides


class Part(NamedTuple):
    """One of train, valid and test: windows of the clips of a released split.

    split: the released split. steps: of a window. id, group, subset: str [N], of the clip.
    label: int32 [N] or multi-hot uint8 [N, classes], over `classes` of `parts`.
    start: int64 [N], where the window begins in the split's inputs. offset: int64 [N], where in its clip.
    length: int32 [N], how many of its steps lie in the clip. weight: float32 [N], of its loss in training.
    digest: uint8 [N, 16], of all steps of the clip.
    """

    split: str
    steps: int
    id: np.ndarray
    group: np.ndarray
    subset: np.ndarray
    label: np.ndarray
    start: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    weight: np.ndarray
    digest: np.ndarray

    @property
    def segment(self) -> np.ndarray:
        """Names of the windows, unique in the split: str [N]."""
        return np.char.add(np.char.add(self.id, "@"), self.offset.astype(str))


def select(part: Part, chosen: np.ndarray) -> Part:
    """The examples of a part at `chosen`, a mask or indices."""
    return Part(part.split, part.steps, *(field[chosen] for field in part[2:]))


def checksum(part: Part) -> str:
    """Of everything that a part's examples are: names, groups, labels, weights, places, samples."""
    found = hashlib.sha256(f"{part.split} {part.steps}".encode())
    for field in part[2:]:
        found.update(f"{field.dtype} {field.shape}".encode())
        found.update(field.tobytes())
    return found.hexdigest()


def make_parts(prepared: Prepared, protocol, data) -> tuple[dict[str, Part], list[str], list[str]]:
    """Cuts a prepared data set into {"train", "valid", "test"}.

    Args:
      protocol: mapping with the released split behind `train`, `valid` and `test`. Where test comes from the same one
        as train, `test_fraction` of it is held out; where valid does, `valid_fraction` of what is left; by `unit`:
        "segment" (single windows), "id" (clips) or "group"; of the subset `judged` alone, where one is named.
      data: the config's section: split_seed, exclude_classes, segment, split_file, test_fold, group_file, and of train
        alone hide, label_file and subset_weights.

    Returns:
      the parts; names of the classes left; sentences about what is odd about them.

    Raises:
      ConfigError: an unknown class, unit or fold, or one where there can be none. DataError: a released split that is
        not prepared, an empty part, a file that cannot be read or does not fit the data.
    """
    missing = sorted({protocol[name] for name in PARTS} - set(prepared.examples))
    if missing:
        raise DataError(
            f"{prepared.folder} has no split {', '.join(missing)}, which this protocol needs; it has"
            f" {', '.join(prepared.examples)}: complete the release, or choose another --config.protocol."
        )
    if data.test_fold and not data.split_file:
        raise ConfigError(f"data.test_fold={data.test_fold!r} needs data.split_file, which has the folds.")
    if data.exclude_classes and prepared.multi_label:
        raise ConfigError(f"data.exclude_classes is for single labels, and {prepared.name} has several a clip.")
    unknown = sorted(set(data.exclude_classes) - set(prepared.classes))
    if unknown:
        raise ConfigError(f"data.exclude_classes names {unknown[0]!r}, which {prepared.name} does not have.")
    classes, notes = [name for name in prepared.classes if name not in data.exclude_classes], []
    if not classes:
        raise ConfigError(f"data.exclude_classes leaves no class of {prepared.name}.")
    whole, judged = {protocol[name]: None for name in PARTS}, protocol.get("judged", "")
    for split in whole:
        clips = keep_classes(open_clips(prepared, split), prepared.classes, classes)
        if data.group_file:
            clips = regroup(clips, read_table(data.group_file, ("group", "artist")), data.group_file)
        whole[split] = clips
    copies, joined = find_copies(whole, prepared), {}
    if copies:
        split, row = copies[0][1]
        notes.append(
            f"{sum(len(same) - 1 for same in copies)} clips of {prepared.name} have the very samples of another clip,"
            f" such as {whole[split].id[row]} of {split}"
        )
    if protocol.get("unit") == "group":
        joined = join_groups([{str(whole[split].group[row]) for split, row in same} for same in copies])
    parts = {name: whole[protocol[name]] for name in PARTS}
    if data.split_file:
        table = read_table(data.split_file, ("split", "fold"), prepared.classes)
        parts, note = assign(parts["train"], table, data.split_file, data.test_fold)
        notes.append(note)
        for name in ("valid", "test"):
            if parts[name] is not None:
                inside = is_judged(parts[name], judged)
                parts[name] = select(parts[name], inside)
                if lost := int((~inside).sum()):
                    notes.append(f"{lost} clips of {name} in {data.split_file} are not {judged} and are left out")

    cut = {id(clips): cut_windows(clips, prepared, data.segment) for clips in parts.values() if clips is not None}
    parts = {name: clips if clips is None else cut[id(clips)] for name, clips in parts.items()}
    for name in ("test", "valid"):
        if parts[name] is None or parts[name] is parts["train"]:
            fraction = protocol.get(f"{name}_fraction", 0.0)
            together = name == "test" and parts["valid"] is parts["train"]
            grouped = with_groups(parts["train"], joined)
            held = hold_out(grouped, protocol.get("unit"), fraction, data.split_seed, judged)
            parts[name] = select(parts["train"], held & is_judged(parts["train"], judged))
            if lost := int(held.sum()) - len(parts[name].id):
                notes.append(
                    f"{lost} examples that are not {judged} share a {protocol.get('unit')} with {name}: left out"
                )
            parts["train"] = select(parts["train"], ~held)
            parts["valid"] = parts["train"] if together else parts["valid"]
    for name, other in (("train", "valid"), ("train", "test"), ("valid", "test")) if joined else ():
        copied = is_copied(parts[name], parts[other], joined)
        if copied.any():
            parts[name] = select(parts[name], ~copied)
            notes.append(f"{copied.sum()} examples of {name} are of recordings that {other} has copies of: left out")
    if data.hide.share:
        parts["train"], note = hide(parts["train"], data.hide.share, data.hide.wrong, len(classes), data.split_seed)
        notes.append(note)
    if data.label_file:
        if prepared.multi_label:
            raise ConfigError(f"data.label_file is for single labels, and {prepared.name} has several a clip.")
        parts["train"], note = relabel(parts["train"], labels.read(data.label_file, classes), classes, data.label_file)
        notes.append(note)
    for subset in sorted(set(data.subset_weights) - set(parts["train"].subset)):
        notes.append(f"data.subset_weights: train has no example of the subset {subset}")
    parts["train"] = weigh(parts["train"], data.subset_weights)
    if not len(parts["train"].id) and (data.label_file or data.subset_weights):
        raise DataError(
            f"train is empty: of its clips data.label_file={data.label_file!r} names none, or data.subset_weights="
            f"{dict(data.subset_weights)} leaves out all; a clip of {prepared.name} is called such as"
            f" {whole[protocol['train']].id[0]}."
        )
    for name, part in parts.items():
        if not len(part.id):
            raise DataError(f"{name} is empty: {prepared.folder} has too few examples in {part.split}.")
    trained = class_shares(parts["train"], len(classes)) > 0
    for name in ("valid", "test"):
        unknown = np.flatnonzero((class_shares(parts[name], len(classes)) > 0) & ~trained)
        if len(unknown):
            notes.append(f"{name} has examples of {', '.join(classes[k] for k in unknown)}, of which train has none")
    return parts, classes, notes


def open_clips(prepared: Prepared, split: str) -> Part:
    """All clips of a released split, uncut."""
    index = prepared.index(split)
    offset, weight = np.zeros(len(index.id), np.int64), np.ones(len(index.id), np.float32)
    of_clip = index.id, index.group, index.subset, index.label, index.start
    return Part(split, prepared.longest, *of_clip, offset, index.length, weight, index.digest)


def cut_windows(clips: Part, prepared: Prepared, segment) -> Part:
    """Clips as windows of segment.seconds every segment.hop_s, of which segment.shortest_s must lie in the clip.

    seconds of 0: clips whole, all filled up to the longest one's length. hop_s of 0: window after window.
    """
    steps, hop, shortest = (
        segments.steps_of(segment[name], prepared.sample_rate_hz, name) for name in ("seconds", "hop_s", "shortest_s")
    )
    if segment.pad not in ("zeros", "repeat"):
        raise ConfigError(f"data.segment.pad={segment.pad!r} is unknown; it must be 'zeros' or 'repeat'.")
    if not steps:
        return clips
    count = int(segments.count_windows(clips.length, steps, hop or steps, shortest).sum())
    needed_bytes = count * sum(field.nbytes // max(len(field), 1) for field in clips[2:])
    if needed_bytes > host.memory_bytes():
        raise ConfigError(
            f"data.segment.seconds={segment.seconds} and hop_s={segment.hop_s} cut {clips.split} into {count:,}"
            f" windows, whose index needs {needed_bytes / 1e9:,.0f} GB of memory; make them longer."
        )
    clip, offset, length = segments.windows(clips.length, steps, hop or steps, shortest)
    whole = select(clips, clip)
    return whole._replace(steps=steps, start=whole.start + offset, offset=offset, length=length)


def find_copies(whole: dict[str, Part], prepared: Prepared) -> list[list[tuple[str, int]]]:
    """Sets of clips that have the same samples, each clip as its split and its row there.

    Clips whose steps are all the same, such as silence, hold no recording and are no copies.

    Args:
      whole: split -> its uncut clips.
    """
    rows = [(split, row) for split, clips in whole.items() for row in range(len(clips.id))]
    digest = np.concatenate([clips.digest for clips in whole.values()]).view(f"S{store.DIGEST_BYTES}")[:, 0]
    order = np.argsort(digest, kind="stable")
    ends = np.flatnonzero(digest[order][1:] != digest[order][:-1]) + 1
    found = [[rows[number] for number in numbers] for numbers in np.split(order, ends) if len(numbers) > 1]

    def is_constant(split: str, row: int) -> bool:
        start, length = whole[split].start[row], whole[split].length[row]
        steps = prepared.inputs(split)[start : start + length]
        return bool((steps == steps[:1]).all())

    return sorted(same for same in found if not is_constant(*same[0]))


def join_groups(tied: list[set[str]]) -> dict[str, str]:
    """Group -> the first name of all groups that are tied to it, for those that are tied to another one."""
    joined: dict[str, set[str]] = {}
    for groups in tied:
        whole = set().union(*(joined.get(group, {group}) for group in groups))
        joined |= dict.fromkeys(whole, whole)
    return {group: min(whole) for group, whole in joined.items() if len(whole) > 1}


def with_groups(part: Part, joined: dict[str, str]) -> Part:
    """A part with joined groups under one name."""
    return part._replace(group=np.array([joined.get(group, group) for group in part.group], str)) if joined else part


def is_copied(part: Part, other: Part, joined: dict[str, str]) -> np.ndarray:
    """Mask of the examples that copies alone tie to `other`: their groups are joined to its groups, not among them."""
    tied = np.isin(with_groups(part, joined).group, with_groups(other, joined).group)
    return tied & ~np.isin(part.group, other.group)


def keep_classes(part: Part, classes: list[str], kept: list[str]) -> Part:
    """Leaves out the examples of other classes and renumbers the labels (single-label data only)."""
    if kept == classes:
        return part
    renumbered = np.array([kept.index(name) if name in kept else -1 for name in classes], np.int32)
    part = part._replace(label=renumbered[part.label])
    return select(part, part.label >= 0)


def read_table(path: str, columns: tuple[str, ...], classes: list[str] | None = None) -> dict[str, str]:
    """A csv with a header as {clip: value}, from its column `clip` or `id` and the first of `columns` that it has.

    classes: where the csv also has a column `label` or `genre`, the names that may stand there.

    Raises:
      DataError: no such file or column, a clip named twice, an empty value, an unknown class.
    """
    rows, key = labels.read_rows(path)
    header = rows[0].keys() if rows else ()
    column = next((name for name in columns if name in header), None)
    if not key or not column:
        raise DataError(f"{path} must have a header with a column clip (or id) and a column {' or '.join(columns)}.")
    class_column = next((name for name in ("label", "genre") if name in header), None)
    table = {}
    for number, row in enumerate(rows, 2):
        clip, value = row[key], row[column]
        if not clip or not value:
            raise DataError(f"{path}, line {number}: an empty {column if clip else key}.")
        if clip in table:
            raise DataError(f"{path}, line {number}: {clip} is named a second time.")
        if class_column and classes and row[class_column] not in classes:
            raise DataError(
                f"{path}, line {number}: the {class_column} {row[class_column]!r} is not among {', '.join(classes)}."
            )
        table[clip] = value
    return table


def by_id(table: dict[str, Any], ids: np.ndarray, path) -> dict[str, Any]:
    """A table of clips under the names that the data set gives them; a name in it may have folders and a suffix too.

    Raises:
      DataError: two of its names are one clip.
    """
    known, named = set(ids), {}
    for name, value in table.items():
        last = re.split(r"[\\/]", name)[-1]
        clip = next((form for form in (name, last, last.rpartition(".")[0]) if form in known), name)
        if clip in named:
            raise DataError(f"{path} names {clip} twice, once as {name}.")
        named[clip] = value
    return named


def regroup(clips: Part, table: dict[str, str], path: str) -> Part:
    """Clips with the groups of a table. Raises DataError where it does not name one of them."""
    table = by_id(table, clips.id, path)
    if absent := [clip for clip in clips.id if clip not in table]:
        raise DataError(f"{path} names no group for {absent[0]} ({len(absent)} such clips); add them, or leave it out.")
    return clips._replace(group=np.array([table[clip] for clip in clips.id], str))


def assign(clips: Part, table: dict[str, str], path: str, test_fold: str) -> tuple[dict[str, Part | None], str]:
    """Parts as a table says: "train", "valid" and "test", or folds, of which `test_fold` is test and the rest train.

    valid is None where the table has none. Also returns how many clips one of both sides does not know.
    """
    table = by_id(table, clips.id, path)
    if not table.keys() & set(clips.id):
        raise DataError(
            f"none of the {len(table)} clips that {path} names, such as {next(iter(table), '')!r}, is in {clips.split};"
            f" a clip there is called such as {str(clips.id[0])!r}."
        )
    value = np.array([table.get(clip, "") for clip in clips.id], str)
    known = sorted(set(table.values()))
    if set(known) <= set(PARTS):
        if test_fold:
            raise ConfigError(f"data.test_fold={test_fold!r}: {path} has {', '.join(known)}, no folds.")
        parts = {name: select(clips, value == name) for name in PARTS}
        parts["valid"] = parts["valid"] if "valid" in known else None
    elif set(known) & set(PARTS):
        raise ConfigError(
            f"{path} has the splits {', '.join(known)}; they must be train, valid and test, or else all be folds."
        )
    elif test_fold in known:
        rest = select(clips, (value != "") & (value != test_fold))
        parts = {"train": rest, "valid": None, "test": select(clips, value == test_fold)}
    else:
        raise ConfigError(f"data.test_fold={test_fold!r} is none of the folds in {path}: {', '.join(known)}.")
    unlisted, absent = int((value == "").sum()), len(set(table) - set(clips.id))
    return parts, f"{path}: {unlisted} clips are not in it and left out, {absent} clips that it names are absent"


def relabel(part: Part, table: dict[str, labels.Label], classes: list[str], path) -> tuple[Part, str]:
    """The windows of the clips in a table of labels, as it has them. Also returns how many clips one of both lacks."""
    table = by_id(table, part.id, path)
    listed = np.isin(part.id, list(table))
    own = select(part, listed)
    given = [table[clip] for clip in own.id]
    number = {name: k for k, name in enumerate(classes)}
    own = own._replace(
        label=np.array([number[label.label] for label in given], np.int32),
        subset=np.array([label.subset or subset for label, subset in zip(given, own.subset)], str),
        weight=np.array([label.weight for label in given], np.float32),
    )
    unlisted, absent = len(np.unique(part.id[~listed])), len(set(table) - set(part.id))
    note = (
        f"{path}: {unlisted} training clips are not in it and left out, {absent} clips that it names are not in train"
    )
    return own, note


def hide(part: Part, share: float, wrong: float, classes: int, seed: int) -> tuple[Part, str]:
    """Clips of which a share also counts as `HIDDEN`, a share of those with another class's label: what recipes that
    mend labels can be judged by where the labels are known. Also returns how many these are.

    Raises:
      ConfigError: shares that are none, or several labels a clip.
    """
    if not (0 <= share <= 1 and 0 <= wrong <= 1 and part.label.ndim == 1):
        raise ConfigError(f"data.hide.share={share} and wrong={wrong} must be 0 … 1, of clips with a single label.")
    if wrong and classes < 2:
        raise ConfigError(f"data.hide.wrong={wrong} needs a second class to put in the first one's place.")
    rng = np.random.default_rng((seed, 0x41DE))
    ids = rng.permutation(np.unique(part.id[part.subset != HIDDEN]))
    hidden, mislabelled = (ids[: round(amount * len(ids))] for amount in (share, share * wrong))
    shift = dict(zip(mislabelled, rng.integers(1, max(classes, 2), len(mislabelled))))
    label = (part.label + np.array([shift.get(clip, 0) for clip in part.id])) % classes
    subset = np.where(np.isin(part.id, hidden), HIDDEN, part.subset)
    note = f"{len(hidden)} clips of train count as {HIDDEN} (data.hide), {len(mislabelled)} of them under a wrong label"
    return part._replace(label=label.astype(np.int32), subset=subset), note


def weigh(part: Part, subset_weights) -> Part:
    """The examples with their losses weighted by subset; those of weight 0 are left out.

    Raises:
      ConfigError: a negative weight.
    """
    weight = part.weight.copy()
    for subset, factor in subset_weights.items():
        if factor < 0:
            raise ConfigError(f"data.subset_weights.{subset}={factor} must not be negative.")
        weight[part.subset == subset] *= factor
    return select(part._replace(weight=weight), weight > 0)


def is_judged(part: Part, judged: str) -> np.ndarray:
    """Mask of the examples that may be held out: those of a subset, or all."""
    return part.subset == judged if judged else np.ones(len(part.id), bool)


def hold_out(part: Part, unit: str, fraction: float, seed: int, judged: str = "") -> np.ndarray:
    """Mask of the examples to hold out: `fraction` of each class's units, rounded, whole units, never all.

    judged: only units with examples of this subset, counted by their classes.
    """
    if unit not in ("segment", "id", "group"):
        raise ConfigError(f"a protocol's unit is {unit!r}; it must be 'segment', 'id' or 'group'.")
    inside = is_judged(part, judged)
    if not inside.any():
        raise DataError(f"{part.split} has no examples of the subset {judged!r}, which this protocol holds out.")
    key = getattr(part, unit)
    units, first = np.unique(key[inside], return_index=True)
    label = part.label[inside]
    strata = label[first] if label.ndim == 1 else np.zeros(len(units), np.int32)
    rng = np.random.default_rng((seed, 0x5917))
    held = np.zeros(len(units), bool)
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        wanted = min(round(fraction * len(members)), len(members) - 1)
        held[members[:wanted]] = True
    return np.isin(key, units[held])


def class_shares(part: Part, classes: int) -> np.ndarray:
    """Share of the examples that carry each class: float [classes]."""
    if part.label.ndim == 2:
        return part.label.mean(0)
    return np.bincount(part.label, minlength=classes) / len(part.label)


def check_leaks(parts: dict[str, Part], fields: tuple[str, ...]) -> None:
    """Raises DataError that names what stands in two of the parts, by each of `fields`: "segment", "id", "group".

    valid and test may be the very same examples only where groups are not asked for: some studies chose on their test
    split, and that is what their `paper` protocol repeats.
    """
    for field, (one, other) in itertools.product(fields, itertools.combinations(parts, 2)):
        if "group" not in fields and parts[one] is parts[other]:
            continue
        shared = np.intersect1d(getattr(parts[one], field), getattr(parts[other], field))
        if len(shared):
            names = ", ".join(shared[:5]) + (", …" if len(shared) > 5 else "")
            raise DataError(
                f"{one} and {other} share {len(shared)} {field}s ({names}): the split leaks; mend the data set or the"
                " protocol."
            )

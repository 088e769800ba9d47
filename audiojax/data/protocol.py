"""Protocols: which clips are in train, valid and test, and the check that no clip is in two of them."""

import collections
import itertools

import numpy as np

from audiojax.data import labels, tables
from audiojax.data.prepared import Prepared
from audiojax.data.windows import Part, class_shares, cut_windows, select, whole_clips
from audiojax.errors import ConfigError, DataError

PARTS = ("train", "valid", "test")
UNITS = ("segment", "id", "group")  # what a protocol keeps together: a window, a clip, a group of clips
HIDDEN = "unverified"  # the subset of clips whose labels data.hide hides

Parts = dict[str, Part]


def make_parts(prepared: Prepared, protocol, data) -> tuple[Parts, list[str], list[str]]:
    """Cuts a prepared data set into train, valid and test.

    Args:
      protocol: mapping. `train`, `valid` and `test` name the released split of each part. Where test names that of
        train, `test_fraction` of it is held out; where valid does, `valid_fraction` of the rest. `unit` is what stays
        together: "segment", "id" or "group". `judged`, if not "", is the only subset that is held out.
      data: the section `data` of the config.

    Returns:
      the parts by name; the names of the classes; sentences about what is unusual.

    Raises:
      ConfigError: a class, unit, fold, share or weight that is not possible. DataError: a split that is not prepared,
        an empty part, or a file that cannot be read or does not fit the data.
    """
    classes = check_request(prepared, protocol, data)
    splits = dict.fromkeys(protocol[name] for name in PARTS)
    clips = {split: keep_classes(whole_clips(prepared, split), prepared.classes, classes) for split in splits}
    if data.group_file:
        clips = {split: regroup(part, data.group_file) for split, part in clips.items()}
    tied, notes = find_copies(clips, prepared)
    joined = join_groups(tied) if protocol.get("unit") == "group" else {}
    windows = {split: cut_windows(part, prepared, data.segment) for split, part in clips.items()}

    parts, by_file = assign(windows, protocol, data, prepared.classes)
    parts, by_holding_out = hold_out_parts(parts, protocol, joined, data.split_seed)
    parts, by_copies = leave_out_copies(parts, joined)
    parts["train"], in_train = change_train(parts["train"], data, classes)
    in_parts = check_parts(parts, classes, prepared, data)
    return parts, classes, notes + by_file + by_holding_out + by_copies + in_train + in_parts


def check_request(prepared: Prepared, protocol, data) -> list[str]:
    """The names of the classes that are left. Raises ConfigError or DataError where the data set lacks something."""
    if missing := sorted({protocol[name] for name in PARTS} - set(prepared.examples)):
        raise DataError(
            f"{prepared.folder} has no split {', '.join(missing)}, which this protocol needs; it has"
            f" {', '.join(prepared.examples)}: complete the release, or choose another --config.protocol."
        )
    if data.test_fold and not data.split_file:
        raise ConfigError(f"data.test_fold={data.test_fold!r} needs data.split_file, which has the folds.")
    for key in ("exclude_classes", "label_file"):
        if data[key] and prepared.multi_label:
            raise ConfigError(f"data.{key} is for single labels, and {prepared.name} has several a clip.")
    if unknown := sorted(set(data.exclude_classes) - set(prepared.classes)):
        raise ConfigError(f"data.exclude_classes names {unknown[0]!r}, which {prepared.name} does not have.")
    classes = [name for name in prepared.classes if name not in data.exclude_classes]
    if not classes:
        raise ConfigError(f"data.exclude_classes leaves no class of {prepared.name}.")
    return classes


def keep_classes(part: Part, classes: list[str], kept: list[str]) -> Part:
    """Leaves out other classes than `kept` and renumbers the labels. For single labels."""
    if kept == classes:
        return part
    renumbered = np.array([kept.index(name) if name in kept else -1 for name in classes], np.int32)
    part = part._replace(label=renumbered[part.label])
    return select(part, part.label >= 0)


def regroup(clips: Part, path: str) -> Part:
    """Clips with the groups of a csv. Raises DataError where it lacks one of the clips."""
    groups = tables.with_ids(tables.read_table(path, "group|artist"), clips.id, path)
    if absent := [clip for clip in clips.id if clip not in groups]:
        raise DataError(f"{path} names no group for {absent[0]} ({len(absent)} such clips); add them, or leave it out.")
    return clips._replace(group=np.array([groups[clip] for clip in clips.id], str))


def find_copies(clips: Parts, prepared: Prepared) -> tuple[list[set[str]], list[str]]:
    """The groups of each set of clips with the same samples, and a sentence about these clips, if there are any.

    Constant clips, such as silence, are not copies of each other.
    """
    same = collections.defaultdict(list)
    for split, part in clips.items():
        for row, digest in enumerate(part.digest):
            same[digest.tobytes()].append((split, row))

    def is_constant(split: str, row: int) -> bool:
        start, length = clips[split].start[row], clips[split].length[row]
        steps = prepared.inputs(split)[start : start + length]
        return bool((steps == steps[:1]).all())

    copies = sorted(rows for rows in same.values() if len(rows) > 1 and not is_constant(*rows[0]))
    notes = []
    if copies:
        (split, row), count = copies[0][1], sum(len(rows) - 1 for rows in copies)
        notes = [f"{count} clips have the same samples as another clip, such as {clips[split].id[row]} of {split}"]
    return [{str(clips[split].group[row]) for split, row in rows} for rows in copies], notes


def join_groups(tied: list[set[str]]) -> dict[str, str]:
    """Joins groups that are tied, directly or over others: {group: first of the joined groups}, without single ones."""
    joined: dict[str, set[str]] = {}
    for groups in tied:
        together = set().union(*(joined.get(group, {group}) for group in groups))
        joined |= dict.fromkeys(together, together)
    return {group: min(together) for group, together in joined.items() if len(together) > 1}


def with_joined(part: Part, joined: dict[str, str]) -> Part:
    """A part with joined groups under one name."""
    return part._replace(group=np.array([joined.get(group, group) for group in part.group], str)) if joined else part


def assign(windows: Parts, protocol, data, classes: list[str]) -> tuple[dict[str, Part | None], list[str]]:
    """Assigns the windows of the released splits to parts, by data.split_file or else by the protocol.

    A part is None where it is to be held out of train. Also returns sentences about clips that are left out.
    """
    parts = {name: windows[protocol[name]] for name in PARTS}
    if not data.split_file:
        held_out = [name for name in ("valid", "test") if protocol[name] == protocol["train"]]
        return parts | dict.fromkeys(held_out), []
    parts, note = assign_by_file(parts["train"], data.split_file, data.test_fold, classes)
    notes, judged = [note], protocol.get("judged", "")
    for name in ("valid", "test"):
        if parts[name] is not None:
            inside = is_judged(parts[name], judged)
            if not inside.all():
                lost = len(np.unique(parts[name].id[~inside]))
                notes.append(f"{lost} clips of {name} in {data.split_file} are not {judged} and are left out")
            parts[name] = select(parts[name], inside)
    return parts, notes


def assign_by_file(windows: Part, path: str, test_fold: str, classes: list[str]) -> tuple[dict[str, Part | None], str]:
    """Assigns windows by a csv of clips and splits, or of clips and folds, of which `test_fold` is test.

    valid is None where the file has none. Also returns a sentence about clips that only one side has.
    """
    table = tables.with_ids(tables.read_table(path, "split|fold", classes), windows.id, path)
    ids = set(windows.id)
    if not table.keys() & ids:
        raise DataError(
            f"none of the {len(table)} clips that {path} names, such as {next(iter(table))!r}, is in {windows.split};"
            f" a clip there is called such as {str(windows.id[0])!r}."
        )
    value = np.array([table.get(clip, "") for clip in windows.id], str)
    known = sorted(set(table.values()))
    if set(known) <= set(PARTS):
        if test_fold:
            raise ConfigError(f"data.test_fold={test_fold!r}: {path} has {', '.join(known)}, no folds.")
        parts = {name: select(windows, value == name) for name in PARTS}
        parts["valid"] = parts["valid"] if "valid" in known else None
    elif set(known) & set(PARTS):
        raise ConfigError(
            f"{path} has the splits {', '.join(known)}; they must be train, valid and test, or else all be folds."
        )
    elif test_fold in known:
        rest = select(windows, (value != "") & (value != test_fold))
        parts = {"train": rest, "valid": None, "test": select(windows, value == test_fold)}
    else:
        raise ConfigError(f"data.test_fold={test_fold!r} is none of the folds in {path}: {', '.join(known)}.")
    unlisted, absent = len(ids - table.keys()), len(table.keys() - ids)
    return parts, f"{path}: {unlisted} clips are not in it and left out, {absent} clips that it names are absent"


def hold_out_parts(
    parts: dict[str, Part | None], protocol, joined: dict[str, str], seed: int
) -> tuple[Parts, list[str]]:
    """Holds test, then valid, out of train where they are None. Joined groups stay together."""
    parts, notes = dict(parts), []
    unit, judged = protocol.get("unit"), protocol.get("judged", "")
    for name in ("test", "valid"):
        if parts[name] is None:
            train, fraction = parts["train"], protocol.get(f"{name}_fraction", 0.0)
            held = hold_out(with_joined(train, joined), unit, fraction, seed, judged)
            parts |= {name: select(train, held & is_judged(train, judged)), "train": select(train, ~held)}
            if lost := int(held.sum()) - len(parts[name].id):
                notes.append(f"{lost} examples that are not {judged} share a {unit} with {name}: left out")
    return parts, notes


def hold_out(part: Part, unit: str, fraction: float, seed: int, judged: str = "") -> np.ndarray:
    """Mask of the windows to hold out: `fraction` of each class's units, rounded, but never all of them.

    Args:
      unit: one of `UNITS`. judged: count only units with windows of this subset, by the classes of these; "": all.

    Raises:
      ConfigError: an unknown unit. DataError: no window of the subset.
    """
    if unit not in UNITS:
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


def is_judged(part: Part, judged: str) -> np.ndarray:
    """Mask of the windows of a subset; of all windows for ""."""
    return part.subset == judged if judged else np.ones(len(part.id), bool)


def leave_out_copies(parts: Parts, joined: dict[str, str]) -> tuple[Parts, list[str]]:
    """Leaves out of train and valid the groups that copies alone tie to valid or test."""
    parts, notes = dict(parts), []
    for name, other in (("train", "valid"), ("train", "test"), ("valid", "test")) if joined else ():
        tied = np.isin(with_joined(parts[name], joined).group, with_joined(parts[other], joined).group)
        copied = tied & ~np.isin(parts[name].group, parts[other].group)
        if copied.any():
            parts[name] = select(parts[name], ~copied)
            notes.append(f"{copied.sum()} examples of {name} are of recordings that {other} has copies of: left out")
    return parts, notes


def change_train(train: Part, data, classes: list[str]) -> tuple[Part, list[str]]:
    """Hides labels, takes those of data.label_file, and weights subsets, as the section `data` asks."""
    notes = []
    if data.hide.share:
        train, note = hide(train, data.hide.share, data.hide.wrong, len(classes), data.split_seed)
        notes.append(note)
    if data.label_file:
        train, note = relabel(train, labels.read(data.label_file, classes), classes, data.label_file)
        notes.append(note)
    for subset in sorted(set(data.subset_weights) - set(train.subset)):
        notes.append(f"data.subset_weights: train has no example of the subset {subset}")
    return weigh(train, data.subset_weights), notes


def hide(train: Part, share: float, wrong: float, classes: int, seed: int) -> tuple[Part, str]:
    """Puts a random `share` of the clips into the subset `HIDDEN`, and gives `wrong` of these another class's label.

    It tests recipes that correct labels where the true labels are known. Also returns how many clips these are.

    Raises:
      ConfigError: shares outside 0 … 1, several labels a clip, or no second class.
    """
    if not (0 <= share <= 1 and 0 <= wrong <= 1 and train.label.ndim == 1):
        raise ConfigError(f"data.hide.share={share} and wrong={wrong} must be 0 … 1, of clips with a single label.")
    if wrong and classes < 2:
        raise ConfigError(f"data.hide.wrong={wrong} needs a second class to put in the first one's place.")
    rng = np.random.default_rng((seed, 0x41DE))
    ids = rng.permutation(np.unique(train.id[train.subset != HIDDEN]))
    hidden, mislabelled = (ids[: round(amount * len(ids))] for amount in (share, share * wrong))
    shift = dict(zip(mislabelled, rng.integers(1, max(classes, 2), len(mislabelled))))
    label = (train.label + np.array([shift.get(clip, 0) for clip in train.id])) % classes
    subset = np.where(np.isin(train.id, hidden), HIDDEN, train.subset)
    note = f"{len(hidden)} clips of train count as {HIDDEN} (data.hide), {len(mislabelled)} of them under a wrong label"
    return train._replace(label=label.astype(np.int32), subset=subset), note


def relabel(part: Part, table: dict[str, labels.Label], classes: list[str], path) -> tuple[Part, str]:
    """The windows of the clips in a table, with its labels, and a sentence about clips that only one side has."""
    table = tables.with_ids(table, part.id, path)
    listed = np.isin(part.id, list(table))
    windows = select(part, listed)
    given = [table[clip] for clip in windows.id]
    number = {name: k for k, name in enumerate(classes)}
    windows = windows._replace(
        label=np.array([number[label.label] for label in given], np.int32),
        subset=np.array([label.subset or subset for label, subset in zip(given, windows.subset)], str),
        weight=np.array([label.weight for label in given], np.float32),
    )
    unlisted, absent = len(np.unique(part.id[~listed])), len(table.keys() - set(part.id))
    return windows, (
        f"{path}: {unlisted} training clips are not in it and left out, {absent} clips that it names are not in train"
    )


def weigh(part: Part, subset_weights) -> Part:
    """Multiplies the weights of subsets; leaves out windows of weight 0. Raises ConfigError for a negative factor."""
    weight = part.weight.copy()
    for subset, factor in subset_weights.items():
        if factor < 0:
            raise ConfigError(f"data.subset_weights.{subset}={factor} must not be negative.")
        weight[part.subset == subset] *= factor
    return select(part._replace(weight=weight), weight > 0)


def check_parts(parts: Parts, classes: list[str], prepared: Prepared, data) -> list[str]:
    """Says which classes valid or test has that train lacks. Raises DataError where a part is empty."""
    if not len(parts["train"].id) and (data.label_file or data.subset_weights):
        raise DataError(
            f"train is empty: data.label_file={data.label_file!r} names none of its clips, or data.subset_weights="
            f"{dict(data.subset_weights)} leaves out all of them; a clip of {prepared.name} is called such as"
            f" {prepared.index(parts['train'].split).id[0]}."
        )
    for name, part in parts.items():
        if not len(part.id):
            raise DataError(f"{name} is empty: {prepared.folder} has too few examples in {part.split}.")
    present = {name: class_shares(part, len(classes)) > 0 for name, part in parts.items()}
    unknown = {name: np.flatnonzero(present[name] & ~present["train"]) for name in ("valid", "test")}
    return [
        f"{name} has examples of {', '.join(classes[k] for k in numbers)}, of which train has none"
        for name, numbers in unknown.items()
        if len(numbers)
    ]


def check_leaks(parts: Parts, fields: tuple[str, ...]) -> None:
    """Checks that no two parts share a value of any of `fields`: "segment", "id" or "group".

    Where "group" is not among them, valid and test may be the same part: some studies chose on their test split, and
    their `paper` protocol repeats that.

    Raises:
      DataError: two parts share a value; names the first ones.
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

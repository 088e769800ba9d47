"""A split on disk: its inputs end to end in one raw file, and an index of who is where. Read without TensorFlow.

While a split is written, a journal notes every example that is whole, so that an interrupted preparation goes on where
it stopped.
"""

import collections
import concurrent.futures
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tqdm

Item = tuple[str, Callable[[], "Example"]]  # what it is in the release, and how to read it (ValueError: unreadable)


class Example(NamedTuple):
    """One clip as a data set yields it.

    id: unique in the split. group: what must not stand on both sides of an honest split.
    label: class index, or a list of them for multi-label data.
    input: [length, ...], steps of the data set's input.
    subset: what part of the split it belongs to where scores are told apart, such as "verified"; else "".
    changes: what reading altered, such as "resampled"; counted and said.
    """

    id: str
    group: str
    label: int | list[int]
    input: np.ndarray
    subset: str = ""
    changes: tuple[str, ...] = ()


class Index(NamedTuple):
    """All of a split but its inputs, sorted by id.

    id, group, subset: str [N]. label: int32 [N], or multi-hot uint8 [N, classes].
    start: int64 [N], first step in the inputs' file. length: int32 [N], steps.
    """

    id: np.ndarray
    group: np.ndarray
    subset: np.ndarray
    label: np.ndarray
    start: np.ndarray
    length: np.ndarray


class Written(NamedTuple):
    """What came of a split. skipped: [what, why] of everything unreadable. changes: what was altered -> how often."""

    examples: int
    longest: int
    skipped: list[list[str]]
    changes: dict[str, int]


def inputs_path(folder: pathlib.Path, split: str) -> pathlib.Path:
    """The file of all inputs of a split, end to end."""
    return folder / f"{split}.inputs"


def index_path(folder: pathlib.Path, split: str) -> pathlib.Path:
    """The file that says where in them each clip lies."""
    return folder / f"{split}.index.npz"


def open_inputs(folder: pathlib.Path, split: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """All inputs of a split, mapped from disk: [steps, *shape]."""
    return np.memmap(inputs_path(folder, split), dtype, "r").reshape(-1, *shape)


def read_index(folder: pathlib.Path, split: str) -> Index:
    """The index of a split, as `write` left it."""
    with np.load(index_path(folder, split)) as arrays:
        return Index(**{name: arrays[name] for name in Index._fields})


def write(
    folder: pathlib.Path,
    split: str,
    items: Iterable[Item],
    shape: tuple[int, ...],
    dtype: np.dtype,
    classes: int | None,
) -> Written:
    """Writes a split into `folder`, going on from its journal; reading runs ahead in as many threads as CPUs.

    Threads suffice: decoding, resampling and writing all release Python's lock.

    Args:
      shape, dtype: of one step of the input. classes: their number where labels are multi-hot, else None.
    """
    inputs, journal = inputs_path(folder, split), folder / f"{split}.journal"
    step_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    entries = recover(inputs, journal, step_bytes)
    done, ids, skipped = {entry["what"] for entry in entries}, {entry["id"] for entry in entries}, []
    with open(inputs, "ab") as inputs_file, open(journal, "a", encoding="utf-8") as journal_file:
        total = len(done) + sum(what not in done for what, _ in items) if isinstance(items, Sequence) else None
        pending = read_ahead((what, read) for what, read in items if what not in done)
        progress = tqdm.tqdm(pending, split, total, initial=len(done), unit=" examples", disable=None)
        for what, read in progress:
            try:
                example = read()
                if example.id in ids:
                    raise ValueError(f"a second example with the id {example.id}")
            except ValueError as error:
                skipped.append([what, str(error)])
                continue
            values = np.ascontiguousarray(example.input, dtype)
            assert values.shape[1:] == shape, f"{what}: {values.shape[1:]} a step instead of {shape}"
            entry = {"what": what, "length": len(values)} | example._replace(input=None)._asdict()
            inputs_file.write(values.data)
            inputs_file.flush()
            journal_file.write(json.dumps(entry) + "\n")
            journal_file.flush()
            entries.append(entry)
            ids.add(example.id)
        longest = max((entry["length"] for entry in entries), default=0)
        # A window that begins in the last example may reach past it.
        inputs_file.write(bytes(longest * step_bytes))
    np.savez(index_path(folder, split), **make_index(entries, classes)._asdict())
    changes = collections.Counter(change for entry in entries for change in entry["changes"])
    return Written(len(entries), longest, skipped, dict(changes))


def recover(inputs: pathlib.Path, journal: pathlib.Path, step_bytes: int) -> list[dict]:
    """The examples that an interrupted attempt left whole; whatever it left half-written is cut off."""
    entries, kept_bytes, written_bytes = [], 0, inputs.stat().st_size if inputs.exists() else 0
    lines = journal.read_text(encoding="utf-8").split("\n")[:-1] if journal.exists() else []
    for line in lines:
        entry = json.loads(line)
        if kept_bytes + entry["length"] * step_bytes > written_bytes:
            break
        kept_bytes += entry["length"] * step_bytes
        entries.append(entry)
    journal.write_text("".join(line + "\n" for line in lines[: len(entries)]), encoding="utf-8")
    with open(inputs, "ab") as file:
        file.truncate(kept_bytes)
    return entries


def read_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items in the same order, each being read in another thread by the time it is yielded."""
    workers = os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        reading = collections.deque()
        for what, read in items:
            reading.append((what, pool.submit(read).result))
            if len(reading) > 4 * workers:
                yield reading.popleft()
        yield from reading


def make_index(entries: list[dict], classes: int | None) -> Index:
    """The index of examples that lie in the inputs' file in the order of `entries`."""
    length = np.array([entry["length"] for entry in entries], np.int32)
    start = np.concatenate([[0], np.cumsum(length, dtype=np.int64)])[:-1].astype(np.int64)
    if classes is None:
        label = np.array([entry["label"] for entry in entries], np.int32)
    else:
        label = np.zeros((len(entries), classes), np.uint8)
        for row, entry in zip(label, entries):
            row[entry["label"]] = 1
    texts = (np.array([entry[name] for entry in entries], str) for name in ("id", "group", "subset"))
    index = Index(*texts, label, start, length)
    order = np.argsort(index.id)
    return Index(*(field[order] for field in index))

"""A split on disk: the inputs of its clips end to end in one raw file, and an index of the clips.

It is read without TensorFlow. While it is written, a journal lists every clip that is complete, so that an interrupted
preparation continues where it stopped.
"""

import collections
import concurrent.futures
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tqdm

from audiojax import durable, host

DIGEST_BYTES = 16
Item = tuple[str, Callable[[], "Example"]]  # its name in the release, and what reads it or raises ValueError


class Example(NamedTuple):
    """A clip of a data set.

    id: unique in the split. group: clips of one group stay in one part of an honest split.
    label: class number, or a list of them for multi-label data.
    input: [length, *step_shape].
    subset: a name by which scores are reported apart, such as "verified"; else "".
    changes: what decoding changed, such as "resampled".
    """

    id: str
    group: str
    label: int | list[int]
    input: np.ndarray
    subset: str = ""
    changes: tuple[str, ...] = ()


class Index(NamedTuple):
    """The clips of a split, sorted by id.

    id, group, subset: str [N]. label: int32 [N], or multi-hot uint8 [N, classes].
    start: int64 [N], first step in the file of inputs. length: int32 [N], steps.
    digest: uint8 [N, 16], `digest_of` the steps.
    """

    id: np.ndarray
    group: np.ndarray
    subset: np.ndarray
    label: np.ndarray
    start: np.ndarray
    length: np.ndarray
    digest: np.ndarray


class Written(NamedTuple):
    """What `write` wrote. skipped: [what, why] of what is unreadable. changes: {what decoding changed: how often}."""

    examples: int
    longest: int
    skipped: list[list[str]]
    changes: dict[str, int]


def inputs_path(folder: pathlib.Path, split: str) -> pathlib.Path:
    """The file of the inputs of a split."""
    return folder / f"{split}.inputs"


def index_path(folder: pathlib.Path, split: str) -> pathlib.Path:
    """The file of the index of a split."""
    return folder / f"{split}.index.npz"


def digest_of(steps: np.ndarray) -> bytes:
    """The first 16 bytes of the SHA-256 of the steps of a clip."""
    return hashlib.sha256(np.ascontiguousarray(steps).data).digest()[:DIGEST_BYTES]


def open_inputs(folder: pathlib.Path, split: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """The inputs of a split, mapped from disk, with the padding that `write` adds: [steps, *shape]."""
    return np.memmap(inputs_path(folder, split), dtype, "r").reshape(-1, *shape)


def read_index(folder: pathlib.Path, split: str) -> Index:
    """The index of a split."""
    with np.load(index_path(folder, split)) as arrays:
        return Index(**{name: arrays[name] for name in Index._fields})


def damaged_clips(index: Index, inputs: np.ndarray) -> list[str]:
    """Ids of the clips whose steps differ from their digest, in the order of the file."""
    order = np.argsort(index.start)
    rows = zip(index.id[order], index.start[order], index.length[order], index.digest[order])
    return [str(clip) for clip, start, n, digest in rows if digest_of(inputs[start : start + n]) != digest.tobytes()]


def write(
    folder: pathlib.Path,
    split: str,
    items: Iterable[Item],
    shape: tuple[int, ...],
    dtype: np.dtype,
    classes: int | None,
) -> Written:
    """Writes a split into `folder`, and continues from its journal where there is one.

    Items are read ahead in one thread a core: decoding, resampling, hashing and writing release Python's lock. As many
    zeros follow the last clip as the longest one has steps. On return everything is on disk.

    Args:
      shape, dtype: those of one step of the input. classes: number of classes for multi-hot labels, else None.
    """
    inputs, journal = inputs_path(folder, split), folder / f"{split}.journal"
    step_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    entries = recover(inputs, journal, step_bytes)
    done, ids, skipped = {entry["what"] for entry in entries}, {entry["id"] for entry in entries}, []

    def hashed(read: Callable[[], Example]) -> tuple[Example, bytes]:
        example = read()
        steps = np.ascontiguousarray(example.input, dtype)
        if steps.shape[1:] != shape:
            raise ValueError(f"{steps.shape[1:]} a step instead of {shape}")
        return example._replace(input=steps), digest_of(steps)

    with open(inputs, "ab") as inputs_file, open(journal, "a", encoding="utf-8") as journal_file:
        total = len(done) + sum(what not in done for what, _ in items) if isinstance(items, Sequence) else None
        pending = read_ahead((what, functools.partial(hashed, read)) for what, read in items if what not in done)
        progress = tqdm.tqdm(pending, split, total, initial=len(done), unit=" examples", disable=None)
        for what, read in progress:
            try:
                example, digest = read()
                if example.id in ids:
                    raise ValueError(f"a second example with the id {example.id}")
            except ValueError as error:
                skipped.append([what, str(error)])
                continue
            entry = {"what": what, "length": len(example.input), "digest": digest.hex()}
            entry |= example._replace(input=None)._asdict()
            inputs_file.write(example.input.data)
            inputs_file.flush()
            journal_file.write(json.dumps(entry) + "\n")
            journal_file.flush()
            entries.append(entry)
            ids.add(example.id)
        longest = max((entry["length"] for entry in entries), default=0)
        # A window that begins in the last clip may reach past its end.
        inputs_file.write(bytes(longest * step_bytes))
    durable.sync(inputs)
    with durable.replacing(index_path(folder, split), "wb") as file:
        np.savez(file, **make_index(entries, classes)._asdict())
    changes = collections.Counter(change for entry in entries for change in entry["changes"])
    return Written(len(entries), longest, skipped, dict(changes))


def recover(inputs: pathlib.Path, journal: pathlib.Path, step_bytes: int) -> list[dict]:
    """The entries of the clips that are complete. Cuts both files before the first clip that is not."""
    entries, kept_bytes = [], 0
    lines = journal.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] if journal.exists() else []
    with open(inputs, "ab+") as file:
        file.seek(0)
        for line in lines:
            try:
                entry = json.loads(line)
                steps = file.read(entry["length"] * step_bytes)
                if digest_of(np.frombuffer(steps, np.uint8)).hex() != entry["digest"]:
                    break
            except (ValueError, KeyError, TypeError):  # a line that a power cut left incomplete
                break
            kept_bytes += len(steps)
            entries.append(entry)
        file.truncate(kept_bytes)
    journal.write_text("".join(line + "\n" for line in lines[: len(entries)]), encoding="utf-8")
    return entries


def read_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Items in the same order, which threads read before they are yielded."""
    workers = host.cores()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        reading = collections.deque()
        for what, read in items:
            reading.append((what, pool.submit(read).result))
            if len(reading) > 4 * workers:
                yield reading.popleft()
        yield from reading


def make_index(entries: list[dict], classes: int | None) -> Index:
    """The index of clips that lie in the file of inputs in the order of `entries`."""
    length = np.array([entry["length"] for entry in entries], np.int32)
    start = np.concatenate([[0], np.cumsum(length, dtype=np.int64)])[:-1].astype(np.int64)
    if classes is None:
        label = np.array([entry["label"] for entry in entries], np.int32)
    else:
        label = np.zeros((len(entries), classes), np.uint8)
        for row, entry in zip(label, entries):
            row[entry["label"]] = 1
    texts = (np.array([entry[name] for entry in entries], str) for name in ("id", "group", "subset"))
    digest = np.frombuffer(bytes.fromhex("".join(entry["digest"] for entry in entries)), np.uint8)
    index = Index(*texts, label, start, length, digest.reshape(-1, DIGEST_BYTES))
    order = np.argsort(index.id)
    return Index(*(field[order] for field in index))

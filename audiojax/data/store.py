"""A split on disk: its inputs end to end in one raw file, and an index of who is where. Read without TensorFlow.

While a split is written, a journal notes every example that is whole, so that an interrupted preparation goes on where
it stopped.
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
    digest: uint8 [N, 16], of the clip's steps: `digest_of`.
    """

    id: np.ndarray
    group: np.ndarray
    subset: np.ndarray
    label: np.ndarray
    start: np.ndarray
    length: np.ndarray
    digest: np.ndarray


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


def digest_of(steps: np.ndarray) -> bytes:
    """The first 16 bytes of the SHA-256 of a clip's steps."""
    return hashlib.sha256(np.ascontiguousarray(steps).data).digest()[:DIGEST_BYTES]


def open_inputs(folder: pathlib.Path, split: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """All inputs of a split, mapped from disk, its longest clip's length of zeros behind them: [steps, *shape]."""
    return np.memmap(inputs_path(folder, split), dtype, "r").reshape(-1, *shape)


def read_index(folder: pathlib.Path, split: str) -> Index:
    """The index of a split, as `write` left it."""
    with np.load(index_path(folder, split)) as arrays:
        return Index(**{name: arrays[name] for name in Index._fields})


def damaged_clips(index: Index, inputs: np.ndarray) -> list[str]:
    """Ids of the clips whose steps are not those that were prepared, in the order of the file."""
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
    """Writes a split into `folder`, going on from its journal; reading runs ahead in as many threads as CPUs.

    Threads suffice: decoding, resampling, hashing and writing all release Python's lock. On return all is on disk.

    Args:
      shape, dtype: of one step of the input. classes: their number where labels are multi-hot, else None.
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
        # A window that begins in the last example may reach past it.
        inputs_file.write(bytes(longest * step_bytes))
    durable.sync(inputs)
    with durable.replacing(index_path(folder, split), "wb") as file:
        np.savez(file, **make_index(entries, classes)._asdict())
    changes = collections.Counter(change for entry in entries for change in entry["changes"])
    return Written(len(entries), longest, skipped, dict(changes))


def recover(inputs: pathlib.Path, journal: pathlib.Path, step_bytes: int) -> list[dict]:
    """The examples that an interrupted attempt left whole; what follows the first that is not is cut off."""
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
            except (ValueError, KeyError, TypeError):  # A line that lost power left half-written.
                break
            kept_bytes += len(steps)
            entries.append(entry)
        file.truncate(kept_bytes)
    journal.write_text("".join(line + "\n" for line in lines[: len(entries)]), encoding="utf-8")
    return entries


def read_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items in the same order, each being read in another thread by the time it is yielded."""
    workers = host.cores()
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
    digest = np.frombuffer(bytes.fromhex("".join(entry["digest"] for entry in entries)), np.uint8)
    index = Index(*texts, label, start, length, digest.reshape(-1, DIGEST_BYTES))
    order = np.argsort(index.id)
    return Index(*(field[order] for field in index))

"""Test scores of a study's finished runs, beside the published ones."""

import pathlib
import re
from collections.abc import Callable, Container
from typing import NamedTuple

import numpy as np

from audiojax.errors import RunError
from audiojax.runs import read_object

PROTOCOLS = ("paper", "honest")  # these come first, in this order; other protocols follow by name
UNPUBLISHED = (("accuracy",), ("mAUC", "mAP"))  # shown without published scores: the first that the runs have
TOGETHER = {"mAUC": ("mAP", "d_prime")}  # metrics that are always shown together
JUDGED = ("frechet", "recognised", "taught")  # metrics of a GAN's clips, shown wherever runs have them
CLIPS = "_group"  # suffix of a metric over clips, whose windows are averaged
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters and lone surrogates
KINDS = {  # types of the values in result.json
    **dict.fromkeys(("metrics", "ci95", "per_class", "examples", "published", "time_s", "versions", "tables"), dict),
    **dict.fromkeys(("best_step", "classes", "notes", "skipped"), list),
}


class Run(NamedTuple):
    """A finished run in workdir/ROW/PROTOCOL/split_N, with its config.json and result.json."""

    folder: pathlib.Path
    row: str
    protocol: str
    split_seed: int
    config: dict
    result: dict


class Measure(NamedTuple):
    """A metric on a split: "test", a subset such as "test_public", or "train" and "valid"."""

    split: str
    metric: str

    def __str__(self):
        name, clips = self.metric.removesuffix(CLIPS), self.metric.endswith(CLIPS)
        return name + " of clips" * clips + f" ({self.split})" * (self.split != "test")


class Score(NamedTuple):
    """A measure over all seeds and splits of a row under one protocol.

    mean: NaN if a value is not finite. std: with ddof 1; None for a single value.
    interval: (low, high) of the 95 % interval, its ends averaged over the runs; None if the metric has none.
    values: number of values in the mean.
    """

    mean: float
    std: float | None
    interval: tuple[float, float] | None
    values: int


class Outcome(NamedTuple):
    """The runs of a row under one protocol.

    seeds, splits: how many different ones. train_s: mean training time of a run, all its seeds together.
    test_examples: mean over the runs, rounded. absent: examples of the release that are not on disk.
    """

    scores: dict[Measure, Score]
    seeds: int
    splits: int
    parameters: int
    train_s: float
    test_examples: int
    absent: int


class Entry(NamedTuple):
    """A row of the table.

    published: all measures of the table, None where the study has no number. outcomes: by protocol.
    gaps: mean under `paper` minus mean under `honest`, over the splits that both have; None without any.
    """

    row: str
    published: dict[Measure, float | None]
    outcomes: dict[str, Outcome]
    gaps: dict[Measure, float | None]

    def has(self, protocol: str, measure: Measure) -> bool:
        """Whether the runs under a protocol have this measure."""
        return protocol in self.outcomes and measure in self.outcomes[protocol].scores


def read_runs(workdir: pathlib.Path, rows: Container[str]) -> tuple[list[Run], list[str]]:
    """Reads the finished runs of these rows.

    Returns:
      The runs by row, protocol and split seed, and one sentence for each run that cannot be read.
    """
    runs, damaged = [], []
    for path in sorted(workdir.glob("*/*/split_*/result.json")):
        if path.parts[-4] in rows:
            try:
                runs.append(read_run(path.parent))
            except RunError as error:
                damaged.append(str(error))
    return sorted(runs, key=lambda run: (run.row, protocol_order(run.protocol), run.split_seed)), damaged


def read_run(folder: pathlib.Path) -> Run:
    """Reads a finished run. Raises RunError if a file is damaged, or if the folder was copied or moved here."""
    repair = "the same command evaluates the newest checkpoint again."
    result = read_checked(folder / "result.json", check_result, f"remove that file: {repair}")
    config = read_checked(folder / "config.json", check_config, f"remove that file and result.json beside it: {repair}")
    row, protocol, split = printable(list(folder.parts[-3:]))
    split_seed = int(config["data"]["split_seed"])
    place = config["row"], config["protocol"], f"split_{split_seed}"
    if place != (row, protocol, split):  # A copy would count twice.
        raise RunError(
            f"{folder} holds the run of {'/'.join(place)}, copied or moved; take it out of this table's folder, or put"
            " it back to that place."
        )
    return Run(folder, row, protocol, split_seed, config, result)


def read_checked(path: pathlib.Path, check: Callable[[dict], None], repair: str) -> dict:
    """Reads a JSON object, with unprintable characters escaped. Raises RunError, with `repair`, if `check` fails."""
    try:
        value = printable(read_object(path))
        check(value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} cannot be read ({type(error).__name__}: {error}); {repair}") from error
    return value


def printable(tree):
    """Escapes control characters and lone surrogates in all strings of a JSON tree."""
    if isinstance(tree, dict):
        return {printable(key): printable(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [printable(value) for value in tree]
    return UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], tree) if isinstance(tree, str) else tree


def check_config(config: dict) -> None:
    """Raises KeyError, TypeError or ValueError if a config.json lacks what a table needs."""
    int(config["data"]["split_seed"]), config["data"]["name"], config["row"], config["protocol"]


def check_result(result: dict) -> None:
    """Raises KeyError, TypeError, ValueError or AttributeError if a result.json lacks what a table needs."""
    for key, kind in KINDS.items():
        if not isinstance(result.get(key, kind()), kind):
            raise TypeError(f"{key} is no {kind.__name__}")
    outcome([Run(pathlib.Path(), "", "", 0, {}, result)], measures_of(result["metrics"]))
    result["metrics"]["test"], result["variant"]


def protocol_order(name: str) -> tuple:
    """Sort key of a protocol: `PROTOCOLS` first, then by name."""
    return (PROTOCOLS.index(name) if name in PROTOCOLS else len(PROTOCOLS), name)


def grouped(runs: list[Run]) -> dict[tuple[str, str], list[Run]]:
    """The runs by (row, protocol), in the order of `read_runs`."""
    groups = {}
    for run in runs:
        groups.setdefault((run.row, run.protocol), []).append(run)
    return groups


def summarise(rows: dict, runs: list[Run]) -> list[Entry]:
    """One entry for each row of a study, in order, with or without runs.

    Args:
      rows: the study's ROWS, row -> {"published": {split: {metric: value}}, ...}.
    """
    runs = with_clips(rows, runs)
    wanted, entries, groups = measures(rows, runs), [], grouped(runs)
    for row, settings in rows.items():
        published = {m: settings["published"].get(m.split, {}).get(m.metric) for m in wanted}
        by_protocol = {protocol: found for (name, protocol), found in groups.items() if name == row}
        outcomes = {protocol: outcome(found, wanted) for protocol, found in by_protocol.items()}
        entries.append(Entry(row, published, outcomes, {m: gap(by_protocol, m) for m in wanted}))
    return entries


def with_clips(rows: dict, runs: list[Run]) -> list[Run]:
    """Copies the metrics of runs on whole clips to the metrics of clips that the study has published."""
    published = {measure.metric for row in rows.values() for measure in measures_of(row["published"])}
    plain = {metric: metric.removesuffix(CLIPS) for metric in published if metric.endswith(CLIPS)}
    if not plain:
        return runs

    def widened(metrics: dict) -> dict:
        if any(name.endswith(CLIPS) for name in metrics):
            return metrics
        return {metric: metrics[name] for metric, name in plain.items() if name in metrics} | metrics

    def with_sections(run: Run) -> Run:
        sections = {
            name: {split: widened(metrics) for split, metrics in run.result.get(name, {}).items()}
            for name in ("metrics", "ci95")
        }
        return run._replace(result=run.result | sections)

    return [with_sections(run) for run in runs]


def measures(rows: dict, runs: list[Run]) -> list[Measure]:
    """Measures that the table shows.

    They are the published metrics of test, or of train and validation if none is of test, in order of appearance. Each
    is followed by the same metric on the whole test split, over clips and over the mean of the seeds, and by the
    metrics of `TOGETHER`, as far as runs have them. The metrics of a GAN's clips come last.
    """
    scored = {measure for run in runs for measure in measures_of(run.result["metrics"])}
    published = [measure for row in rows.values() for measure in measures_of(row["published"])]
    published = [measure for measure in published if measure.split not in ("train", "valid")] or published
    if not published:
        on_test = lambda metrics: [Measure("test", metric) for metric in metrics]
        published = next((on_test(names) for names in UNPUBLISHED if scored.issuperset(on_test(names))), [])
        published = published or on_test({run.config["select"]: None for run in runs})
    found = []
    for split, metric in published:
        beside = [Measure("test", metric), Measure(split, metric + CLIPS), Measure("test", metric + CLIPS)]
        beside += [Measure("test_ensemble", metric), *(Measure(split, other) for other in TOGETHER.get(metric, ()))]
        found += [Measure(split, metric), *(measure for measure in beside if measure in scored)]
    found += [measure for metric in JUDGED if (measure := Measure("test", metric)) in scored]
    return list(dict.fromkeys(found))


def measures_of(tree: dict[str, dict]) -> list[Measure]:
    """The measures in a tree of split -> metric -> value."""
    return [Measure(split, metric) for split, metrics in tree.items() for metric in metrics]


def outcome(runs: list[Run], wanted: list[Measure]) -> Outcome:
    """Summarises the runs of one row and protocol, with those of the wanted measures that they have."""
    results = [run.result for run in runs]
    seeds = set()
    for result in results:  # All settings of a grid have one seed.
        replicas = 1 if result.get("settings") else result["replicas"]
        seeds.update(range(result["seed"], result["seed"] + replicas))
    return Outcome(
        scores={m: score(results, m) for m in wanted if all(has_metric(result, m) for result in results)},
        seeds=len(seeds),
        splits=len({run.split_seed for run in runs}),
        parameters=max(result["parameters"] for result in results),
        train_s=float(np.mean([result["time_s"]["train"] for result in results])),
        test_examples=round(np.mean([result["examples"]["test"] for result in results])),
        absent=max(sum(result["examples"]["absent"].values()) for result in results),
    )


def gap(by_protocol: dict[str, list[Run]], measure: Measure) -> float | None:
    """Mean of a row under `paper` minus its mean under `honest`, over the splits that both have."""
    if not all(protocol in by_protocol for protocol in PROTOCOLS):
        return None
    both = set.intersection(*({run.split_seed for run in by_protocol[protocol]} for protocol in PROTOCOLS))
    paper, honest = ([run.result for run in by_protocol[name] if run.split_seed in both] for name in PROTOCOLS)
    if not both or not all(has_metric(result, measure) for result in paper + honest):
        return None
    return score(paper, measure).mean - score(honest, measure).mean


def score(results: list[dict], measure: Measure) -> Score:
    """Summarises a measure over all replicas of all results. null in JSON, for a value that is not finite, is NaN."""
    split, metric = measure
    values, intervals = [], []
    for result in results:
        of_replicas = result.get("ci95", {}).get(split, {}).get(metric, ())
        for replica, value in enumerate(result["metrics"][split][metric]):
            if has_score(result, value):
                values.append(value)
                intervals += of_replicas[replica : replica + 1]
    values = np.array(values or [None], float)
    interval = tuple(np.array(intervals, float).mean(0).tolist()) if len(intervals) == len(values) else None
    std = float(values.std(ddof=1)) if len(values) > 1 else None
    return Score(float(values.mean()), std, interval, len(values))


def has_metric(result: dict, measure: Measure) -> bool:
    """Whether a result has this measure."""
    return measure.metric in result["metrics"].get(measure.split, ())


def has_score(result: dict, value: float | None) -> bool:
    """Whether a value counts. A seed that diverged before its first evaluation has null, which does not count."""
    return value is not None or not result.get("diverged")

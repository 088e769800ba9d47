"""A study's table: what its finished runs scored on test, beside what was published."""

import csv as csv_format
import io
import json
import pathlib
import re
from collections import Counter
from collections.abc import Container
from typing import NamedTuple

import numpy as np

from audiojax.duration import UNITS
from audiojax.runs import read_object

PROTOCOLS = ("paper", "honest")  # first in every table, in this order; others follow by name
UNPUBLISHED = (("accuracy",), ("mAUC", "mAP"))  # of a study without published scores: the first that the runs have
TOGETHER = {"mAUC": ("mAP", "d_prime")}  # what a metric is always reported with
JUDGED = ("frechet", "recognised", "taught")  # of what a GAN generates, wherever runs have them
CLIPS = "_group"  # suffix of a metric over clips, their windows averaged
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters and lone surrogates
CHOSEN = {"study", "row", "protocol", "seed", "replicas", "data.split_seed"}  # settings that tell runs apart
KINDS = {  # of what result.json holds
    **dict.fromkeys(("metrics", "ci95", "per_class", "examples", "published", "time_s", "versions", "tables"), dict),
    **dict.fromkeys(("best_step", "classes", "notes", "skipped"), list),
}


class Run(NamedTuple):
    """A finished run. folder: WORKDIR/ROW/PROTOCOL/split_N. config, result: its config.json and result.json."""

    folder: pathlib.Path
    row: str
    protocol: str
    split_seed: int
    config: dict
    result: dict


class Measure(NamedTuple):
    """A metric. split: "test", a subset of it such as "test_public", or, of a study that published no test, another."""

    split: str
    metric: str

    def __str__(self):
        name, clips = self.metric.removesuffix(CLIPS), self.metric.endswith(CLIPS)
        return name + " of clips" * clips + f" ({self.split})" * (self.split != "test")


class Score(NamedTuple):
    """A measure over all seeds and splits of a row under one protocol.

    mean: NaN where it is not finite in one of them. std: with ddof 1; None of a single value.
    interval: (low, high), the runs' 95 % intervals with their ends averaged; None where the metric has none.
    values: how many the mean is of.
    """

    mean: float
    std: float | None
    interval: tuple[float, float] | None
    values: int


class Outcome(NamedTuple):
    """What the runs of a row came to under one protocol.

    seeds, splits: how many different ones. train_s: mean of the runs' training times, each of all its seeds together.
    test_examples: mean over the runs, rounded. absent: examples of the complete release that were not there.
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

    published: every measure of the table, None where the study has no number for this row. gaps: mean under `paper`
    less mean under `honest`, over the splits that have both; None where there is none.
    """

    row: str
    published: dict[Measure, float | None]
    outcomes: dict[str, Outcome]
    gaps: dict[Measure, float | None]

    def has(self, protocol: str, measure: Measure) -> bool:
        """Whether runs under a protocol have this measure."""
        return protocol in self.outcomes and measure in self.outcomes[protocol].scores


def read_runs(workdir: pathlib.Path, rows: Container[str]) -> tuple[list[Run], list[str]]:
    """The finished runs of these rows below `workdir`, by row, protocol and split seed; also, of each that cannot be
    read, a sentence that says what repairs it."""
    runs, damaged = [], []
    for path in sorted(workdir.glob("*/*/split_*/result.json")):
        row, protocol = path.parts[-4], printable(path.parts[-3])
        if row not in rows:
            continue
        try:
            result = printable(read_object(path))
            check(result)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            damaged.append(
                f"{path} cannot be read ({type(error).__name__}: {error}); remove that file: the same command evaluates"
                " the newest checkpoint again."
            )
            continue
        beside = path.with_name("config.json")
        try:
            config = printable(read_object(beside))
            split_seed, _ = int(config["data"]["split_seed"]), config["data"]["name"]
            own_place = config["row"], config["protocol"], f"split_{split_seed}"
        except (OSError, ValueError, KeyError, TypeError) as error:
            damaged.append(
                f"{beside} cannot be read ({type(error).__name__}: {error}); remove that file and result.json beside"
                " it: the same command evaluates the newest checkpoint, and writes both again."
            )
            continue
        if own_place != (row, protocol, path.parts[-2]):  # A copy would count twice.
            damaged.append(
                f"{path.parent} holds the run of {'/'.join(own_place)}, copied or moved; take it out of this table's"
                " folder, or put it back to that place."
            )
            continue
        runs.append(Run(path.parent, row, protocol, split_seed, config, result))
    return sorted(runs, key=lambda run: (run.row, protocol_order(run.protocol), run.split_seed)), damaged


def printable(tree):
    """The same with escapes in place of control characters, and of what UTF-8 does not have."""
    if isinstance(tree, dict):
        return {printable(key): printable(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [printable(value) for value in tree]
    return UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], tree) if isinstance(tree, str) else tree


def check(result: dict) -> None:
    """Raises TypeError, ValueError, KeyError or AttributeError where a result.json lacks what every table shows."""
    for key, kind in KINDS.items():
        if not isinstance(result.get(key, kind()), kind):
            raise TypeError(f"{key} is no {kind.__name__}")
    wanted = [Measure(split, metric) for split, of in result["metrics"].items() for metric in of]
    outcome([Run(pathlib.Path(), "", "", 0, {}, result)], wanted)
    result["metrics"]["test"], result["variant"]


def protocol_order(name: str) -> tuple:
    """A key that sorts protocols: `PROTOCOLS` first, others by name."""
    return (PROTOCOLS.index(name) if name in PROTOCOLS else len(PROTOCOLS), name)


def summarise(rows: dict, runs: list[Run]) -> list[Entry]:
    """One entry for each row of a study's ROWS, in their order, also for those without a run.

    Args:
      rows: row -> {"published": {split: {metric: value}}, ...}.
    """
    runs = with_clips(rows, runs)
    wanted, entries = measures(rows, runs), []
    for row, settings in rows.items():
        own = [run for run in runs if run.row == row]
        published = {m: settings["published"].get(m.split, {}).get(m.metric) for m in wanted}
        protocols = sorted({run.protocol for run in own}, key=protocol_order)
        of_protocol = {name: [run for run in own if run.protocol == name] for name in protocols}
        outcomes = {name: outcome(own, wanted) for name, own in of_protocol.items()}
        entries.append(Entry(row, published, outcomes, {m: gap(of_protocol, m) for m in wanted}))
    return entries


def with_clips(rows: dict, runs: list[Run]) -> list[Run]:
    """The runs, where clips are whole examples with their metrics also as those of clips that the study published."""
    published = {metric for of in rows.values() for metrics in of["published"].values() for metric in metrics}
    wanted = {metric: metric.removesuffix(CLIPS) for metric in published if metric.endswith(CLIPS)}

    def widened(section: dict) -> dict:
        also = lambda of: {metric: of[plain] for metric, plain in wanted.items() if plain in of}
        return {
            split: of if any(name.endswith(CLIPS) for name in of) else also(of) | of for split, of in section.items()
        }

    sections = lambda run: {name: widened(run.result.get(name, {})) for name in ("metrics", "ci95")}
    return [run._replace(result=run.result | sections(run)) for run in runs] if wanted else runs


def gap(of_protocol: dict[str, list[Run]], measure: Measure) -> float | None:
    """Of one row: mean under `paper` less mean under `honest`, over the splits that have both."""
    if not all(name in of_protocol for name in PROTOCOLS):
        return None
    both = set.intersection(*({run.split_seed for run in of_protocol[name]} for name in PROTOCOLS))
    results = [[run.result for run in of_protocol[name] if run.split_seed in both] for name in PROTOCOLS]
    if not both or any(measure.metric not in r["metrics"].get(measure.split, ()) for own in results for r in own):
        return None
    paper, honest = (score(own, measure).mean for own in results)
    return paper - honest


def measures(rows: dict, runs: list[Run]) -> list[Measure]:
    """What the table shows: every published metric of test, or else of train and validation, in the order of first
    appearance, each followed by the same metric over the whole test split, over clips and of the seeds' mean, and by
    what goes with it, where runs have these; last, how a GAN's clips are judged."""
    scored = {Measure(split, metric) for run in runs for split, of in run.result["metrics"].items() for metric in of}
    every = [
        Measure(split, metric)
        for settings in rows.values()
        for split, metrics in settings["published"].items()
        for metric in metrics
    ]
    published = [measure for measure in every if measure.split not in ("train", "valid")] or every
    if not published:
        whole = lambda metrics: [Measure("test", metric) for metric in metrics]
        published = next((whole(names) for names in UNPUBLISHED if scored.issuperset(whole(names))), [])
        published = published or whole({run.config["select"]: None for run in runs})
    found = []
    for split, metric in published:
        also = [Measure("test", metric), Measure(split, metric + CLIPS), Measure("test", metric + CLIPS)]
        also += [Measure("test_ensemble", metric), *(Measure(split, other) for other in TOGETHER.get(metric, ()))]
        found += [Measure(split, metric), *(measure for measure in also if measure in scored)]
    found += [measure for metric in JUDGED if (measure := Measure("test", metric)) in scored]
    return list(dict.fromkeys(found))


def outcome(runs: list[Run], wanted: list[Measure]) -> Outcome:
    """What runs of one row and protocol came to; of `wanted`, what they have."""
    results = [run.result for run in runs]
    replicas = lambda result: 1 if result.get("settings") else result["replicas"]  # Those of a grid have one seed.
    seeds = {result["seed"] + replica for result in results for replica in range(replicas(result))}
    return Outcome(
        scores={
            m: score(results, m) for m in wanted if all(m.metric in r["metrics"].get(m.split, ()) for r in results)
        },
        seeds=len(seeds),
        splits=len({run.split_seed for run in runs}),
        parameters=max(result["parameters"] for result in results),
        train_s=float(np.mean([result["time_s"]["train"] for result in results])),
        test_examples=round(np.mean([result["examples"]["test"] for result in results])),
        absent=max(sum(result["examples"]["absent"].values()) for result in results),
    )


def score(results: list[dict], measure: Measure) -> Score:
    """A measure over all replicas of all results."""
    split, metric = measure
    # JSON has null for what is not finite, which becomes NaN and stays it; seeds that diverged are left out.
    values, between = [], []
    for result in results:
        kept = [replica for replica, value in enumerate(result["metrics"][split][metric]) if has_score(result, value)]
        ends = result.get("ci95", {}).get(split, {}).get(metric, ())
        values += [result["metrics"][split][metric][replica] for replica in kept]
        between += [ends[replica] for replica in kept if replica < len(ends)]
    values = np.array(values or [None], float)
    interval = tuple(np.array(between, float).mean(0).tolist()) if len(between) == len(values) else None
    std = float(values.std(ddof=1)) if len(values) > 1 else None
    return Score(float(values.mean()), std, interval, len(values))


def has_score(result: dict, value: float | None) -> bool:
    """Whether a value of a metric counts: one that a seed lacks because it diverged before it was scored does not."""
    return value is not None or not result.get("diverged")


def cells(entries: list[Entry]) -> tuple[list[str], list[list[str]]]:
    """The table as read by people: its header, and a line for each row and metric that it has or was published.

    A metric over clips that the study has no number for is no line of its own but a column, of the last protocol.
    """
    wanted = list(entries[0].published) if entries else []
    protocols = sorted({name for entry in entries for name in entry.outcomes}, key=protocol_order)
    last = "honest" if "honest" in protocols else (protocols or [""])[-1]
    beside = lambda m: Measure(m.split, m.metric + CLIPS)
    unpublished = [m for m in wanted if all(entry.published[m] is None for entry in entries)]
    aside = {beside(m) for m in wanted}.intersection(unpublished)
    lines = [m for m in wanted if m not in aside]
    several = len(lines) > 1
    gaps = all(name in protocols for name in PROTOCOLS)
    header = ["row", *["metric"] * several, "published", *protocols]
    header += ["gap"] * gaps + [f"{last}, clips"] * bool(aside) + ["parameters", "s"]
    table = []
    for entry in entries:
        first = next(iter(entry.outcomes.values()), None)
        seconds = np.mean([outcome.train_s for outcome in entry.outcomes.values()]) if first else None
        show = lambda name, m, entry=entry: spread(entry.outcomes[name].scores[m]) if entry.has(name, m) else "–"
        told = [m for m in lines if entry.published[m] is not None or any(entry.has(name, m) for name in protocols)]
        for m in told or lines[:1]:
            line = [entry.row, *[str(m)] * several, number(entry.published[m])]
            line += [show(name, m) for name in protocols]
            line += [number(entry.gaps[m], "+.3f")] * gaps + [show(last, beside(m))] * bool(aside)
            table.append(line + [number(first and first.parameters, ",d"), number(seconds, ",.0f")])
    return header, table


def number(value: float | None, form: str = ".3f") -> str:
    """A value for people to read, "–" where there is none."""
    return "–" if value is None or not np.isfinite(value) else format(value, form).replace("-", "−")


def spread(score: Score) -> str:
    """A score as "0.712 ± 0.034 (0.62–0.80)"."""
    text = number(score.mean)
    if score.std is not None and np.isfinite(score.std):
        text += f" ± {number(score.std)}"
    if score.interval and np.isfinite(score.interval).all():
        text += " ({}–{})".format(*(number(end, ".2f") for end in score.interval))
    return text


def footnote(entries: list[Entry], runs: list[Run], own: dict[str, dict]) -> str:
    """One line: the metrics, the data, how much of it, how many seeds and splits, what the table's numbers are.

    own: row -> its config as the study has it; what runs have set otherwise is said.
    """
    if not runs:
        return "No run is finished yet."
    shown = ", ".join(str(m) for m in entries[0].published) if entries else "–"
    sets = sorted({(run.config["data"]["name"], run.result["variant"]) for run in runs})
    data = ", ".join(name if variant == "released" else f"{name} ({variant})" for name, variant in sets)
    if any(variant == "stand_in" for _, variant in sets):
        data += ": synthesised data, whose scores say nothing about the study"
    protocols = sorted({run.protocol for run in runs}, key=protocol_order)
    of_protocol = lambda name: [run.result for run in runs if run.protocol == name]
    tests = [f"{span(r['examples']['test'] for r in of_protocol(name))} ({name})" for name in protocols]
    groups = [outcome([run for run in runs if (run.row, run.protocol) == key], []) for key in run_keys(runs)]
    absent = max(group.absent for group in groups)
    parts = f"; a part of it, {absent:,} examples of the release are absent" if absent else ""
    lost = sum(
        sum(not has_score(run.result, value) for value in next(iter(run.result["metrics"]["test"].values()), ()))
        for run in runs
    )
    diverged = f" {lost} seeds that diverged before validation chose anything are left out." if lost else ""
    combinations = " (of a grid, its settings)" if any(run.result.get("settings") for run in runs) else ""
    return (
        f"Scores: {shown}. Data: {data}{parts}. Test examples: {', '.join(tests)}."
        f" Seeds: {span(group.seeds for group in groups)}; splits: {span(group.splits for group in groups)}.{diverged}"
        f" Mean ± standard deviation over seeds and splits{combinations}; in brackets the 95 % interval by bootstrap"
        " over groups of the test examples, its ends averaged; gap: paper − honest, over the splits that have both; s:"
        f" training time of a run, all its seeds together.{changed(runs, own)}"
    )


def changed(runs: list[Run], own: dict[str, dict]) -> str:
    """ " Not as in the configs: …", the settings that runs have changed, and in how many of them; "" where none."""
    counts = Counter(difference for run in runs for difference in differences(run.config, own.get(run.row, run.config)))
    some = lambda count: "" if count == len(runs) else f" in {count} of {len(runs)} runs"
    listed = "; ".join(difference + some(count) for difference, count in counts.items())
    return f" Not as in the configs: {listed}." if listed else ""


def differences(config: dict, own: dict) -> list[str]:
    """What a run's config has in place of the study's own settings, in words."""
    ran, study = flat(config), flat(json.loads(json.dumps(own)))  # JSON has lists for tuples.
    said, keys = [], (ran.keys() | study.keys()) - CHOSEN
    units = [[unit for unit in UNITS if settings.get(unit)] for settings in (ran, study)]
    if units[0] != units[1]:
        length = lambda settings, units: " and ".join(f"{settings[unit]:g} {unit}" for unit in units) or "unset"
        said, keys = (
            [f"the duration is {length(ran, units[0])} instead of the study's {length(study, units[1])}"],
            keys - {*UNITS},
        )
    for key in sorted(keys):
        if key not in study:
            said.append(f"{key} is {ran[key]!r}, which the study does not set")
        elif key in ran and ran[key] != study[key]:
            said.append(f"{key} is {ran[key]!r} instead of the study's {study[key]!r}")
        elif key not in ran and study[key]:  # A key that is newer than the run had its neutral value then.
            said.append(f"{key} is not set instead of the study's {study[key]!r}")
    return said


def flat(config: dict, prefix: str = "") -> dict:
    """Every setting of a config by its key, such as "optim.lr"."""
    settings = {}
    for key, value in config.items():
        inside = flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key: value}
        settings |= inside
    return settings


def run_keys(runs: list[Run]) -> list[tuple[str, str]]:
    """(row, protocol) of all runs, each once."""
    return list(dict.fromkeys((run.row, run.protocol) for run in runs))


def span(values) -> str:
    """ "3", or "1–3"."""
    ends = sorted({*values})
    return f"{ends[0]:,}" if len(ends) == 1 else f"{ends[0]:,}–{ends[-1]:,}"


def markdown(entries: list[Entry], note: str) -> str:
    """The table in Markdown, `note` below it."""
    return markdown_of(*cells(entries), note, right=2)


def markdown_of(header: list[str], lines: list[list[str]], note: str, right: int = 0) -> str:
    """A table in Markdown, its last `right` columns flush right, `note` below it."""
    line = lambda values: "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |"
    rule = line(["---"] * (len(header) - right) + ["---:"] * right)
    return "\n".join([line(header), rule, *map(line, lines), "", note]) + "\n"


def latex(entries: list[Entry], note: str) -> str:
    """The table as a tabular of booktabs, `note` below it as a comment."""
    header, table = cells(entries)
    line = lambda values: " & ".join(map(escape_latex, values)) + r" \\"
    columns = "l" * (len(header) - 2) + "rr"
    begin, end = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"], [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*begin, line(header), r"\midrule", *map(line, table), *end, f"% {note}"]) + "\n"


LATEX = {character: f"\\{character}" for character in "&%$#_{}"}
LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {"±": r"$\pm$", "−": "$-$", "–": "--"}


def escape_latex(text: str) -> str:
    """Text in which LaTeX sees no command."""
    return "".join(LATEX.get(character, character) for character in text)


def csv(entries: list[Entry]) -> str:
    """The table for programs: a line for each row, protocol and metric, in full precision; empty where nothing is."""
    file = io.StringIO()
    writer = csv_format.writer(file, lineterminator="\n")
    fields = ("row", "protocol", "split", "metric", "published", "mean", "std", "low", "high", "values", "gap")
    writer.writerow((*fields, "seeds", "splits", "parameters", "train_s", "test_examples", "absent"))
    for entry in entries:
        for protocol, of in (entry.outcomes or {"": None}).items():
            for measure, published in entry.published.items():
                mean, std, interval, values = of.scores[measure] if entry.has(protocol, measure) else (None,) * 4
                scores = (mean, std, *(interval or (None, None)), values, entry.gaps[measure])
                writer.writerow((entry.row, protocol, *measure, published, *scores, *(of[1:] if of else (None,) * 6)))
    return file.getvalue()

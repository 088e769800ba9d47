"""The table of a study in Markdown, LaTeX and CSV, and its footnote."""

import csv as csv_format
import io
import json
from collections import Counter

import numpy as np

from audiojax.duration import UNITS
from audiojax.report import scores
from audiojax.report.scores import CLIPS, PROTOCOLS, Entry, Measure, Run, Score
from audiojax.runs import MOVED

# Settings that the footnote leaves out: they tell runs apart, or only say how a run is computed.
LEFT_OUT = {"study", "row", "protocol", "seed", "replicas", "data.split_seed", "data.source", *MOVED}


def cells(entries: list[Entry]) -> tuple[list[str], list[list[str]]]:
    """The header of the table, and a line for each row and each metric that the row has or was published with.

    A metric over clips without any published value is a column, of the last protocol, instead of a line.
    """
    wanted = list(entries[0].published) if entries else []
    protocols = sorted({name for entry in entries for name in entry.outcomes}, key=scores.protocol_order)
    last = "honest" if "honest" in protocols else (protocols or [""])[-1]
    over_clips = lambda m: Measure(m.split, m.metric + CLIPS)
    unpublished = [m for m in wanted if all(entry.published[m] is None for entry in entries)]
    aside = {over_clips(m) for m in wanted}.intersection(unpublished)
    lines = [m for m in wanted if m not in aside]
    several, gaps = len(lines) > 1, all(name in protocols for name in PROTOCOLS)
    header = ["row", *["metric"] * several, "published", *protocols]
    header += ["gap"] * gaps + [f"{last}, clips"] * bool(aside) + ["parameters", "s"]
    table = []
    for entry in entries:
        first = next(iter(entry.outcomes.values()), None)
        seconds = np.mean([outcome.train_s for outcome in entry.outcomes.values()]) if first else None
        show = lambda name, m, entry=entry: spread(entry.outcomes[name].scores[m]) if entry.has(name, m) else "–"
        present = [m for m in lines if entry.published[m] is not None or any(entry.has(name, m) for name in protocols)]
        for m in present or lines[:1]:
            line = [entry.row, *[str(m)] * several, number(entry.published[m])]
            line += [show(name, m) for name in protocols]
            line += [number(entry.gaps[m], "+.3f")] * gaps + [show(last, over_clips(m))] * bool(aside)
            table.append(line + [number(first and first.parameters, ",d"), number(seconds, ",.0f")])
    return header, table


def number(value: float | None, form: str = ".3f") -> str:
    """A formatted value, or "–" for None and for what is not finite."""
    return "–" if value is None or not np.isfinite(value) else format(value, form).replace("-", "−")


def spread(score: Score) -> str:
    """A score such as "0.712 ± 0.034 (0.62–0.80)"."""
    text = number(score.mean)
    if score.std is not None and np.isfinite(score.std):
        text += f" ± {number(score.std)}"
    if score.interval and np.isfinite(score.interval).all():
        text += " ({}–{})".format(*(number(end, ".2f") for end in score.interval))
    return text


def footnote(entries: list[Entry], runs: list[Run], base: dict[str, dict]) -> str:
    """One line on the table: metrics, data, number of examples, seeds and splits, and changed settings.

    Args:
      base: row -> its config in the config file. Settings in which runs differ from it are listed.
    """
    if not runs:
        return "No run is finished yet."
    measures = ", ".join(map(str, entries[0].published)) if entries else "–"
    sets = sorted({(run.config["data"]["name"], run.result["variant"]) for run in runs})
    data = ", ".join(name if variant == "released" else f"{name} ({variant})" for name, variant in sets)
    if any(variant == "stand_in" for _, variant in sets):
        data += ": synthesised data, whose scores say nothing about the study"
    protocols = sorted({run.protocol for run in runs}, key=scores.protocol_order)
    counts = [span(run.result["examples"]["test"] for run in runs if run.protocol == name) for name in protocols]
    tests = ", ".join(f"{count} ({name})" for name, count in zip(protocols, counts))
    groups = [scores.outcome(group, []) for group in scores.grouped(runs).values()]
    absent = max(group.absent for group in groups)
    parts = f"; {absent:,} examples of the release are absent" if absent else ""
    values = lambda result: next(iter(result["metrics"]["test"].values()), ())
    lost = sum(not scores.has_score(run.result, value) for run in runs for value in values(run.result))
    diverged = f" {lost} seeds that diverged before their first evaluation are left out." if lost else ""
    settings = " (of a grid, its settings)" if any(run.result.get("settings") for run in runs) else ""
    return (
        f"Scores: {measures}. Data: {data}{parts}. Test examples: {tests}."
        f" Seeds: {span(group.seeds for group in groups)}; splits: {span(group.splits for group in groups)}.{diverged}"
        f" Values are mean ± standard deviation over seeds and splits{settings}; in brackets the 95 % bootstrap"
        " interval over groups of test examples, its ends averaged over runs; gap: paper − honest, over the splits that"
        f" have both; s: training time of a run in seconds, all its seeds together.{changed(runs, base)}"
    )


def changed(runs: list[Run], base: dict[str, dict]) -> str:
    """ " Not as in the configs: …", with the settings that runs have changed and in how many runs; "" without any."""
    counts = Counter(text for run in runs for text in differences(run.config, base.get(run.row, run.config)))
    share = lambda count: "" if count == len(runs) else f" in {count} of {len(runs)} runs"
    listed = "; ".join(text + share(count) for text, count in counts.items())
    return f" Not as in the configs: {listed}." if listed else ""


def differences(config: dict, base: dict) -> list[str]:
    """Settings of a run that differ from the study's, in words. Two durations count as one setting."""
    ran, study = flat(config), flat(json.loads(json.dumps(base)))  # JSON turns tuples into lists.
    keys = {key for key in ran.keys() | study.keys() if key not in LEFT_OUT and not key.startswith("run.")}
    found, units = [], [[unit for unit in UNITS if settings.get(unit)] for settings in (ran, study)]
    if units[0] != units[1]:
        length = lambda settings, units: " and ".join(f"{settings[unit]:g} {unit}" for unit in units) or "unset"
        found.append(f"the duration is {length(ran, units[0])} instead of the study's {length(study, units[1])}")
        keys -= {*UNITS}
    for key in sorted(keys):
        if key not in study:
            found.append(f"{key} is {ran[key]!r}, which the study does not set")
        elif key in ran and ran[key] != study[key]:
            found.append(f"{key} is {ran[key]!r} instead of the study's {study[key]!r}")
        elif key not in ran and study[key]:  # A key that is newer than the run had its neutral value, 0 or empty.
            found.append(f"{key} is not set instead of the study's {study[key]!r}")
    return found


def flat(config: dict, prefix: str = "") -> dict:
    """All settings of a nested config by their dotted keys, such as "optim.lr"."""
    settings = {}
    for key, value in config.items():
        nested = isinstance(value, dict) and value
        settings |= flat(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return settings


def span(values) -> str:
    """The range of values, such as "3" or "1–3"."""
    ends = sorted({*values})
    return f"{ends[0]:,}" if len(ends) == 1 else f"{ends[0]:,}–{ends[-1]:,}"


def markdown(entries: list[Entry], note: str) -> str:
    """The table in Markdown, with `note` below it."""
    return markdown_table(*cells(entries), note, right=2)


def markdown_table(header: list[str], lines: list[list[str]], note: str, right: int = 0) -> str:
    """A table in Markdown, its last `right` columns aligned right, with `note` below it."""
    line = lambda values: "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |"
    rule = line(["---"] * (len(header) - right) + ["---:"] * right)
    return "\n".join([line(header), rule, *map(line, lines), "", note]) + "\n"


def latex(entries: list[Entry], note: str) -> str:
    """The table as a booktabs tabular, with `note` below it as a comment."""
    header, table = cells(entries)
    line = lambda values: " & ".join(map(escape_latex, values)) + r" \\"
    columns = "l" * (len(header) - 2) + "rr"
    begin, end = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"], [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*begin, line(header), r"\midrule", *map(line, table), *end, f"% {note}"]) + "\n"


LATEX = {character: f"\\{character}" for character in "&%$#_{}"}
LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {"±": r"$\pm$", "−": "$-$", "–": "--"}


def escape_latex(text: str) -> str:
    """Escapes the special characters of LaTeX."""
    return "".join(LATEX.get(character, character) for character in text)


def csv(entries: list[Entry]) -> str:
    """A line for each row, protocol and metric, in full precision. Missing values are empty."""
    file = io.StringIO()
    writer = csv_format.writer(file, lineterminator="\n")
    fields = ("row", "protocol", "split", "metric", "published", "mean", "std", "low", "high", "values", "gap")
    writer.writerow((*fields, "seeds", "splits", "parameters", "train_s", "test_examples", "absent"))
    for entry in entries:
        for protocol, found in (entry.outcomes or {"": None}).items():
            for measure, published in entry.published.items():
                mean, std, interval, values = found.scores[measure] if entry.has(protocol, measure) else (None,) * 4
                score = (mean, std, *(interval or (None, None)), values, entry.gaps[measure])
                counts = found[1:] if found else (None,) * 6
                writer.writerow((entry.row, protocol, *measure, published, *score, *counts))
    return file.getvalue()

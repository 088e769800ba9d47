"""The report of a study: its table in three formats, and one page that needs nothing beside itself."""

import json
import pathlib
import shlex
from collections.abc import Callable
from typing import NamedTuple

import jinja2
import numpy as np
from matplotlib.figure import Figure

from audiojax import names, process
from audiojax.durable import write_text
from audiojax.errors import RunError
from audiojax.report import clips, grids, plots, table
from audiojax.report.table import Entry, Measure, Run
from audiojax.writer import read_arrays

MANY = 20  # classes; of more, the best and the worst 10
Table = tuple[list[str], list[list[str]]]  # header, lines


class Example(NamedTuple):
    """A test example on the page. media: key of its picture and sound, "" where there are none.

    true: names of its classes. places: the first two classes, each with its probability.
    """

    id: str
    media: str
    true: str
    places: list[tuple[str, str]]


class Sample(NamedTuple):
    """A generated clip on the page. media: key of its picture and sound."""

    media: str
    caption: str


class Detail(NamedTuple):
    """A row under one protocol. Pictures are data URIs; multi-label data have no confusion.

    shown: which of its runs the details are of. unit: what confusion and classes count, where that are not examples.
    tables, pictures: by title, what else its runs left. samples: by class, what a GAN generated at some evaluations.
    heard: why the examples have no picture and no sound, or how much of them; "" where they are whole. scores, classes:
    None where the row predicts nothing.
    """

    protocol: str
    summary: str
    shown: str
    curves: str | None
    confusion: str | None
    scores: Table | None
    classes: Table | None
    classes_shown: str
    tables: dict[str, Table]
    pictures: dict[str, str]
    unit: str
    samples: dict[str, list[Sample]]
    examples: dict[str, list[Example]]
    heard: str
    command: str
    config: str
    provenance: dict[str, str]


def write(
    study: str, rows: dict, own: dict[str, dict], workdir: pathlib.Path, data_dir: pathlib.Path, file: str = ""
) -> list[str]:
    """Writes table.md, table.csv, table.tex and report.html into `workdir`, and grid.md where there are grids.

    Args:
      rows: the study's ROWS. own: row -> its config as the study has it. workdir: holds ROW/PROTOCOL/split_N.
      data_dir: where its data set is prepared; pictures and sounds of clips come from there. file: the study's.

    Returns:
      A sentence on everything that is damaged, and left out of them.
    """
    runs, damaged = table.read_runs(workdir, rows)
    runs = table.with_clips(rows, runs)
    entries = table.summarise(rows, runs)
    note = table.footnote(entries, runs, own)
    texts = {"table.md": table.markdown(entries, note), "table.csv": table.csv(entries)}
    texts["table.tex"] = table.latex(entries, note)
    wanted = list(entries[0].published) if entries else []
    found = [
        grid
        for key in table.run_keys(runs)
        for grid in attempt(lambda key=key: grids_of(runs, key, wanted), [], damaged)
    ]
    if found:
        texts["grid.md"] = grids.markdown(found)
    file = file or f"configs/{study}.py"
    texts["report.html"] = render(study, file, entries, wanted, runs, found, note, data_dir, damaged)
    for name, text in texts.items():
        write_text(workdir / name, text.encode(errors="backslashreplace").decode())
    return damaged


def grids_of(runs: list[Run], key: tuple[str, str], wanted: list[Measure]) -> list[grids.Grid]:
    """The grid of a row under a protocol, [] where it has none. Raises RunError where its runs have several."""
    return grids.summarise([run for run in runs if (run.row, run.protocol) == key], wanted[0]) if wanted else []


def attempt(read: Callable, otherwise, damaged: list[str]):
    """What `read` returns; `otherwise` where it raises RunError, whose sentence is added to `damaged`."""
    try:
        return read()
    except RunError as error:
        damaged.append(str(error))
        return otherwise


def render(
    study: str,
    file: str,
    entries: list[Entry],
    wanted: list[Measure],
    runs: list[Run],
    found: list[grids.Grid],
    note: str,
    data_dir: pathlib.Path,
    damaged: list[str],
) -> str:
    """The page. wanted: the table's measures. found: the grids among the runs. damaged: of which more may be found."""
    media = {}
    sections = {entry.row: details(runs, entry, file, data_dir, media, damaged) for entry in entries}
    shown = [m for m in wanted if any(entry.has(protocol, m) for entry in entries for protocol in entry.outcomes)]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("audiojax.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(
        study=study,
        entries=entries,
        anchors={entry.row: f"row-{number}" for number, entry in enumerate(entries, 1) if entry.outcomes},
        sections=sections,
        table=table.cells(entries),
        note=note,
        examples=example_counts(runs),
        facts=facts(runs) + damaged,
        skipped=unique(tuple(item) for run in runs for item in run.result["skipped"]),
        overviews={str(m): plots.data_uri(plots.overview(entries, m)) for m in shown},
        grids=grids.cells(found) if found else None,
        grids_drawn=plots.data_uri(plots.grids(found)) if found else None,
        media=media,
    )


def details(
    runs: list[Run], entry: Entry, file: str, data_dir: pathlib.Path, media: dict, damaged: list[str]
) -> list[Detail]:
    """What the page says of a row, protocol after protocol; what cannot be said is added to `damaged`."""
    said = []
    for protocol in entry.outcomes:
        own = [run for run in runs if (run.row, run.protocol) == (entry.row, protocol)]
        try:
            said.append(detail(own, entry, file, data_dir, media, damaged))
        except Exception as error:  # Such as a result.json with lists of another length.
            damaged.append(f"{own[0].folder} is not on the page: {process.unforeseen(error, own[0].folder)}.")
    return said


def detail(runs: list[Run], entry: Entry, file: str, data_dir: pathlib.Path, media: dict, damaged: list[str]) -> Detail:
    """What the page says of the runs of one row and protocol, in depth of the first; adds its clips to `media`, and a
    sentence on each of its files that cannot be read to `damaged`."""
    run, protocol = runs[0], runs[0].protocol
    config, result = run.config, run.result
    curves = read_curves(run.folder / "metrics.jsonl", damaged)
    scores = entry.outcomes[protocol].scores
    selected, headline = config["select"], next(iter(scores), None)
    if headline and not headline.split.startswith("test"):  # Of a study that published no test score, ours.
        headline = next((measure for measure in scores if measure == ("test", selected)), headline)
    metric = headline.metric if selected == "loss" and headline else selected
    metric = metric if f"valid/{metric}" in curves else "loss"
    drawn = plots.learning_curves(curves, metric, result["best_step"]) if curves else None  # An ensemble has none.
    by_class = result["per_class"]["test"][0]
    matrix = by_class.get("confusion")
    classes, classes_shown = class_table(result["classes"], by_class) if by_class else (None, "")
    sound = clips.open_sound(config, data_dir)
    tables = {title: (of["header"], of["lines"]) for title, of in result.get("tables", {}).items()}
    heard_samples = lambda: samples(run, sound.sample_rate_hz, media, damaged)
    return Detail(
        protocol=protocol,
        summary=f"{headline} {table.spread(scores[headline])}" if headline else "",
        shown=shown_of(runs),
        curves=plots.data_uri(drawn) if drawn else None,
        confusion=plots.data_uri(plots.confusion(np.array(matrix), result["classes"])) if matrix else None,
        scores=score_table(result, config) if result["metrics"]["test"] else None,
        classes=classes,
        classes_shown=classes_shown,
        tables=tables,
        pictures=pictures(run, damaged),
        unit="of clips, their windows averaged" if f"loss{table.CLIPS}" in result["metrics"]["test"] else "",
        samples=heard_samples() if isinstance(sound, clips.Sound) else {},
        examples=attempt(lambda: examples(run, sound, media), {}, damaged) if by_class else {},
        heard=heard(sound) if by_class else "",
        command=command(run, file),
        config=json.dumps(config, indent=2, ensure_ascii=False),
        provenance={"device": result["device"], "commit": result["commit"] or "–"} | result["versions"],
    )


def pictures(run: Run, damaged: list[str]) -> dict[str, str]:
    """Of what a run left in plots/, each picture by its title."""
    drawn = {}
    for path in sorted((run.folder / "plots").glob("[!.]*.npz")):
        draw = lambda of, path=path: DRAWN[path.stem](of, run.result["classes"])
        drawn |= attempt(lambda path=path, draw=draw: read_arrays(path, draw), {}, damaged)
    return {title: plots.data_uri(figure) for title, figure in drawn.items()}


def reconstructions(of: dict[str, np.ndarray], classes: list[str]) -> dict[str, Figure]:
    """Of an autoencoder."""
    return {"Spectrograms, and their reconstructions below": plots.reconstructions(of["image"], of["again"])}


def first_layer(of: dict[str, np.ndarray], classes: list[str]) -> dict[str, Figure]:
    """Of a network of images."""
    return {f"First layer: what each of its filters makes of {of['id']}": plots.responses(of["response"])}


def embedding(of: dict[str, np.ndarray], classes: list[str]) -> dict[str, Figure]:
    """Of spread labels, a picture for each group of classes."""
    drawn = {}
    for group in unique(of["group"]):
        inside = of["group"] == group
        xy, label, subset = (of[name][inside] for name in ("xy", "label", "subset"))
        title = f"Latents of {group} by t-SNE: above all clips, below those that are verified or promoted"
        drawn[title] = plots.embedding(xy, label, subset != "unverified", classes)
    return drawn


DRAWN = {"reconstructions": reconstructions, "first_layer": first_layer, "embedding": embedding}  # by file in plots/


def read_curves(path: pathlib.Path, damaged: list[str]) -> dict[str, plots.Curve]:
    """metrics.jsonl as name -> (step [S], value [S, replicas]); lines that cannot be read are added to `damaged`."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        damaged.append(f"{path} cannot be read ({error}); the page is without its curves.")
        return {}
    points, wrong = {}, []
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            step = float(values.pop("step"))
            for name, replicas in values.items():
                value_R, others = np.array(replicas, float), points.setdefault(name, [])
                if value_R.ndim != 1 or (others and len(value_R) != len(others[0][1])):
                    raise ValueError("not one value a replica")
                others.append((step, value_R))
        except (ValueError, KeyError, TypeError, AttributeError):
            wrong.append(str(number))
    if wrong:
        damaged.append(
            f"{path}, line {', '.join(wrong[:5])}{' …' * (len(wrong) > 5)} cannot be read; remove it: the curves are"
            " drawn without it."
        )
    return {
        name: (np.array([step for step, _ in line]), np.array([value_R for _, value_R in line]))
        for name, line in points.items()
        if line
    }


def shown_of(runs: list[Run]) -> str:
    """Which run, and which of its seeds, the details are of."""
    first, replicas = runs[0], runs[0].result["replicas"]
    which = "what validation chose of {} settings" if first.result.get("settings") else "the first of {}"
    other_seeds = f", {which.format(replicas)} (the curves show all)" if replicas > 1 else ""
    other_splits = f", the first of {len(runs)} splits" if len(runs) > 1 else ""
    return f"Shown: split {first.split_seed}{other_splits}; seed {first.result['seed']}{other_seeds}."


def score_table(result: dict, config: dict) -> Table:
    """All scores on every split of the first seed, or in a grid of the settings that validation chose, with the
    published scores and the 95 % intervals of test."""
    scores, published, ci95 = result["metrics"], result["published"], result["ci95"].get("test", {})
    each = next(iter(scores["test"].values()))
    first = next((replica for replica, value in enumerate(each) if table.has_score(result, value)), 0)
    shown, select = first, config["select"]
    if result.get("settings"):
        shown = names.task(config["task"]["name"]).best(scores["valid"][select], select)
    lines = []
    for metric in scores["test"]:
        values = [of[metric][min(shown, len(of[metric]) - 1)] if metric in of else None for of in scores.values()]
        beside = [f"{table.number(of[metric])} ({split})" for split, of in published.items() if metric in of]
        ends = [table.number(end) for end in ci95[metric][shown]] if metric in ci95 else []
        lines.append([str(Measure("test", metric)), *map(table.number, values), "–".join(ends), ", ".join(beside)])
    return ["metric", *scores, "95 % (test)", "published"], lines


def class_table(classes: list[str], by_class: dict) -> tuple[Table, str]:
    """What each class scored on test, and which classes these are: of many the best and the worst."""
    columns = ("precision", "recall", "f1") if "f1" in by_class else ("average_precision", "auc")
    judge = "f1" if "f1" in columns else "average_precision"
    score_K, support_K = by_class[judge], by_class["support"]
    shown, which = list(range(len(classes))), ""
    if len(classes) > MANY:
        ranked = sorted((k for k in shown if support_K[k]), key=lambda k: -score_K[k])
        half = min(MANY, len(ranked)) // 2
        shown = ranked[:half] + ranked[half - min(MANY, len(ranked)) :]
        which = f"{len(shown)} of {len(classes)}, the best and the worst of those in the test split"
    lines = [[classes[k], *(table.number(by_class[name][k]) for name in columns), f"{support_K[k]:,}"] for k in shown]
    return (["class", *(name.replace("_", " ") for name in columns), "support"], lines), which


def examples(run: Run, sound: clips.Sound | str, media: dict) -> dict[str, list[Example]]:
    """The test examples of a run that are worth a look, by kind; their pictures and sounds go to `media`."""
    path, classes = run.folder / "predictions" / "test.npz", run.result["classes"]
    columns = lambda of: [of[name] for name in ("id", "offset", "label", "score")]
    id_N, offset_N, label, score = read_arrays(path, columns)
    score_NK = score if score.ndim == 2 else score[0]

    def example(row: int) -> Example:
        true = [label[row]] if label.ndim == 1 else np.flatnonzero(label[row])
        places = np.argsort(-score_NK[row], kind="stable")[:2]
        return Example(
            id=table.printable(str(id_N[row])) + at(sound, offset_N[row]),
            media=add_media(media, run.config["data"], sound, str(id_N[row]), int(offset_N[row])),
            true=", ".join(classes[k] for k in true),
            places=[(classes[k], f"{score_NK[row, k]:.3f}") for k in places],
        )

    return {kind: [example(row) for row in rows] for kind, rows in clips.choose(score_NK, label, id_N).items()}


def samples(run: Run, sample_rate_hz: int, media: dict, damaged: list[str]) -> dict[str, list[Sample]]:
    """What a GAN generated of each class before its first step, halfway and at the step that validation chose.

    Each step once: of a GAN that was evaluated only before its first and after its last one there is no halfway.
    """
    numbers = [path.stem.removeprefix("step_") for path in (run.folder / "samples").glob("step_*.npz")]
    steps = sorted(int(number) for number in numbers if number.isdecimal())
    chosen = run.result["best_step"][:1]
    if not steps or not set(chosen) <= {*steps}:
        return {}
    earlier = [step for step in steps if step < chosen[0]] or chosen
    shown = {earlier[len(earlier) // 2]: "halfway", steps[0]: "before training", chosen[0]: "chosen"}
    found = {name: [] for name in run.result["classes"]}
    for step, when in sorted(shown.items()):
        path = run.folder / "samples" / f"step_{step}.npz"
        repair = "remove that file: the page takes another step, or goes without."
        sounds = lambda of: [clips.media(audio_T, sample_rate_hz) for audio_T in of["audio"]]
        read = lambda path=path, repair=repair, sounds=sounds: read_arrays(path, sounds, repair)
        for name, sound in zip(found, attempt(read, [], damaged)):
            key = f"{run.row}/{run.protocol}/{name}@{step}"
            media[key] = sound
            found[name].append(Sample(key, f"{name}, {when} (step {step:,})"))
    return found


def heard(sound: clips.Sound | str) -> str:
    """What is to be said of the examples' pictures and sounds, if anything."""
    if isinstance(sound, str):
        return sound
    longest_s = (sound.window or sound.index.length.max()) / sound.sample_rate_hz
    return f"Of the clips below, the first {clips.LONGEST_S:g} s." if longest_s > clips.LONGEST_S else ""


def at(sound: clips.Sound | str, offset: int) -> str:
    """ " at 3.0 s", where examples are windows of clips."""
    return "" if isinstance(sound, str) or not sound.window else f" at {offset / sound.sample_rate_hz:.1f} s"


def add_media(media: dict, data: dict, sound: clips.Sound | str, clip: str, offset: int) -> str:
    """Key of an example's picture and sound in `media`, where they are made once; "" where there are none."""
    audio_T = None if isinstance(sound, str) else clips.cut(sound, clip, offset)
    if audio_T is None:
        return ""
    key = table.printable(f"{data['name']}/{data['variant']}/{sound.name}/{clip}@{offset}+{len(audio_T)}")
    if key not in media:
        media[key] = clips.media(audio_T, sound.sample_rate_hz)
    return key


def command(run: Run, file: str) -> str:
    """The command that makes this run again, where nothing but the row, the data and the seeds was set. file: of its
    study."""
    config = run.config
    settings = {
        "protocol": config["protocol"],
        "data.variant": config["data"]["variant"],
        "data.split_seed": run.split_seed,
        "seed": config["seed"],
        "replicas": config["replicas"],
    }
    flags = [f"--config={file}:{config['row']}", "--workdir=DIR"]
    return shlex.join(["python", "launch.py", *flags, *(f"--config.{key}={value}" for key, value in settings.items())])


def example_counts(runs: list[Run]) -> Table:
    """How many examples each protocol trains, validates and tests on; ranges where runs differ."""
    parts, protocols = ("train", "valid", "test"), unique(run.protocol for run in runs)
    of = lambda protocol: [run.result["examples"] for run in runs if run.protocol == protocol]
    lines = [[name, *(table.span(count[part] for count in of(name)) for part in parts)] for name in protocols]
    return ["protocol", *parts], sorted(lines, key=lambda line: table.protocol_order(line[0]))


def facts(runs: list[Run]) -> list[str]:
    """Sentences on the data: what is absent, left out, altered, odd."""
    counts = [run.result["examples"] for run in runs]
    absent = [
        f"{split}: {n:,} examples of the release are absent." for of in counts for split, n in of["absent"].items()
    ]
    skipped = [f"{of['skipped']:,} items could not be read and were left out." for of in counts if of["skipped"]]
    changed = [f"{n:,} examples {change}." for of in counts for change, n in of["changed"].items()]
    return unique([*absent, *skipped, *changed, *(note for run in runs for note in run.result["notes"])])


def unique(items) -> list:
    """The items without repetitions, in their order."""
    return list(dict.fromkeys(items))

"""The report of a study: its table in three formats, and one HTML page that needs no other file."""

import json
import pathlib
import shlex
from collections.abc import Callable

import jinja2
import numpy as np
from matplotlib.figure import Figure

from audiojax import names, process
from audiojax.durable import write_text
from audiojax.errors import RunError
from audiojax.report import clips, grids, plots, scores, table
from audiojax.report.scores import Entry, Measure, Run
from audiojax.writer import read_arrays

MANY = 20  # classes; of more, the page shows the best and the worst 10
Table = tuple[list[str], list[list[str]]]  # header, lines


def write(
    study: str, rows: dict, base: dict[str, dict], workdir: pathlib.Path, data_dir: pathlib.Path, file: str = ""
) -> list[str]:
    """Writes table.md, table.csv, table.tex and report.html into `workdir`, and grid.md if there are grids.

    Args:
      rows: the study's ROWS. base: row -> its config in the config file. workdir: holds ROW/PROTOCOL/split_N.
      data_dir: prepared data, for pictures and sounds of clips. file: the study's config file.

    Returns:
      A sentence on each damaged file. Damaged files are left out.
    """
    runs, damaged = scores.read_runs(workdir, rows)
    runs = scores.with_clips(rows, runs)
    entries = scores.summarise(rows, runs)
    note = table.footnote(entries, runs, base)
    texts = {
        "table.md": table.markdown(entries, note),
        "table.csv": table.csv(entries),
        "table.tex": table.latex(entries, note),
    }
    groups, headline = scores.grouped(runs), next(iter(entries[0].published), None) if entries else None
    grid = lambda group: attempt(lambda: grids.summarise(group, headline), None, damaged)
    found = [grid for grid in map(grid, groups.values()) if grid] if headline else []
    if found:
        texts["grid.md"] = grids.markdown(found)
    file = file or f"configs/{study}.py"
    texts["report.html"] = render(study, file, entries, runs, found, note, data_dir, damaged)
    for name, text in texts.items():
        write_text(workdir / name, text.encode(errors="backslashreplace").decode())
    return damaged


def attempt(read: Callable, default, damaged: list[str]):
    """Returns `read()`. If it raises RunError, adds the message to `damaged` and returns `default`."""
    try:
        return read()
    except RunError as error:
        damaged.append(str(error))
        return default


def render(
    study: str,
    file: str,
    entries: list[Entry],
    runs: list[Run],
    found: list[grids.Grid],
    note: str,
    data_dir: pathlib.Path,
    damaged: list[str],
) -> str:
    """The HTML page. found: grids among the runs. damaged: sentences on damaged files, which may become more."""
    media = {}
    sections = {entry.row: [] for entry in entries}
    for (row, _), group in scores.grouped(runs).items():
        entry = next(entry for entry in entries if entry.row == row)
        try:
            sections[row].append(detail(group, entry, file, data_dir, media, damaged))
        except Exception as error:  # such as a result.json with lists of different lengths
            folder = group[0].folder
            damaged.append(f"{folder} is not on the page: {process.unforeseen(error, folder)}.")
    wanted = entries[0].published if entries else ()
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


def detail(runs: list[Run], entry: Entry, file: str, data_dir: pathlib.Path, media: dict, damaged: list[str]) -> dict:
    """The page's section on a row under one protocol, with details of the first run. Figures are data URIs.

    Args:
      media: pictures and sounds of clips by key; those of this section are added.
      damaged: sentences on damaged files; those of this section are added.
    """
    run, protocol = runs[0], runs[0].protocol
    config, result = run.config, run.result
    curves, test = read_curves(run.folder / "metrics.jsonl", damaged), result["metrics"]["test"]
    found, select = entry.outcomes[protocol].scores, config["select"]
    headline = next(iter(found), None)
    if headline and not headline.split.startswith("test"):  # A study without published test scores.
        headline = next((measure for measure in found if measure == ("test", select)), headline)
    metric = headline.metric if select == "loss" and headline else select
    metric = metric if f"valid/{metric}" in curves else "loss"
    drawn = plots.learning_curves(curves, metric, result["best_step"]) if curves else None  # An ensemble has none.
    by_class = result["per_class"]["test"][0]
    matrix = by_class.get("confusion")
    classes, classes_shown = class_table(result["classes"], by_class) if by_class else (None, "")
    sound = clips.open_sound(config, data_dir)
    has_sound = isinstance(sound, clips.Sound)
    return dict(
        protocol=protocol,
        summary=f"{headline} {table.spread(found[headline])}" if headline else "",
        shown=shown_run(runs),
        curves=plots.data_uri(drawn) if drawn else None,
        confusion=plots.data_uri(plots.confusion(np.array(matrix), result["classes"])) if matrix else None,
        scores=score_table(result, config) if test else None,
        classes=classes,
        classes_shown=classes_shown,
        tables={title: (lines["header"], lines["lines"]) for title, lines in result.get("tables", {}).items()},
        pictures=pictures(run, damaged),
        unit="over clips, with windows averaged" if f"loss{scores.CLIPS}" in test else "",
        samples=samples(run, sound.sample_rate_hz, media, damaged) if has_sound else {},
        examples=attempt(lambda: examples(run, sound, media), {}, damaged) if by_class else {},
        heard=heard(sound) if by_class else "",
        command=command(run, file),
        config=json.dumps(config, indent=2, ensure_ascii=False),
        provenance={"device": result["device"], "commit": result["commit"] or "–"} | result["versions"],
    )


def pictures(run: Run, damaged: list[str]) -> dict[str, str]:
    """The figures of what a run left in plots/, by title."""
    drawn = {}
    for path in sorted((run.folder / "plots").glob("[!.]*.npz")):
        draw = lambda arrays, path=path: DRAWN[path.stem](arrays, run.result["classes"])
        drawn |= attempt(lambda path=path, draw=draw: read_arrays(path, draw), {}, damaged)
    return {title: plots.data_uri(figure) for title, figure in drawn.items()}


def reconstructions(arrays: dict[str, np.ndarray], classes: list[str]) -> dict[str, Figure]:
    """Figure of an autoencoder's reconstructions."""
    figure = plots.reconstructions(arrays["image"], arrays["again"])
    return {"Spectrograms, and their reconstructions below": figure}


def first_layer(arrays: dict[str, np.ndarray], classes: list[str]) -> dict[str, Figure]:
    """Figure of the activations of a network's first convolution."""
    return {f"First layer: activations of each filter for {arrays['id']}": plots.responses(arrays["response"])}


def embedding(arrays: dict[str, np.ndarray], classes: list[str]) -> dict[str, Figure]:
    """Figures of the latents that labels were spread over, one for each group of classes."""
    drawn = {}
    for group in unique(arrays["group"]):
        inside = arrays["group"] == group
        xy, label, subset = (arrays[name][inside] for name in ("xy", "label", "subset"))
        title = f"Latents of {group} by t-SNE: all clips above, verified and promoted clips below"
        drawn[title] = plots.embedding(xy, label, subset != "unverified", classes)
    return drawn


DRAWN = {"reconstructions": reconstructions, "first_layer": first_layer, "embedding": embedding}  # by file in plots/


def read_curves(path: pathlib.Path, damaged: list[str]) -> dict[str, plots.Curve]:
    """Reads metrics.jsonl as name -> (step [S], value [S, replicas]). Lines that cannot be read go to `damaged`."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        damaged.append(f"{path} cannot be read ({error}); the page lacks its curves.")
        return {}
    points, wrong = {}, []
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            step = float(values.pop("step"))
            for name, replicas in values.items():
                value_R, others = np.array(replicas, float), points.setdefault(name, [])
                if value_R.ndim != 1 or (others and len(value_R) != len(others[0][1])):
                    raise ValueError("not one value for each replica")
                others.append((step, value_R))
        except (ValueError, KeyError, TypeError, AttributeError):
            wrong.append(str(number))
    if wrong:
        shown = ", ".join(wrong[:5]) + " …" * (len(wrong) > 5)
        damaged.append(f"{path}, line {shown} cannot be read; remove it: the curves are drawn without it.")
    return {name: tuple(map(np.array, zip(*line))) for name, line in points.items() if line}


def shown_run(runs: list[Run]) -> str:
    """Says which run and which seed the details are of."""
    first, replicas = runs[0], runs[0].result["replicas"]
    which = "the one that validation chose of {} settings" if first.result.get("settings") else "the first of {}"
    seeds = f", {which.format(replicas)} (the curves show all)" if replicas > 1 else ""
    splits = f", the first of {len(runs)} splits" if len(runs) > 1 else ""
    return f"Shown: split {first.split_seed}{splits}; seed {first.result['seed']}{seeds}."


def score_table(result: dict, config: dict) -> Table:
    """All scores on every split, with the published ones and the 95 % interval on test.

    They are those of the first seed that has any or, in a grid, of the setting that validation chose.
    """
    found, published, ci95 = result["metrics"], result["published"], result["ci95"].get("test", {})
    values_R = next(iter(found["test"].values()))
    replica = next((replica for replica, value in enumerate(values_R) if scores.has_score(result, value)), 0)
    if result.get("settings"):
        select = config["select"]
        replica = names.task(config["task"]["name"]).best(found["valid"][select], select)
    lines = []
    for metric in found["test"]:
        values_of_splits = [split.get(metric, [None]) for split in found.values()]
        ours = [table.number(values_R[min(replica, len(values_R) - 1)]) for values_R in values_of_splits]
        theirs = [f"{table.number(split[metric])} ({name})" for name, split in published.items() if metric in split]
        ends = [table.number(end) for end in ci95[metric][replica]] if metric in ci95 else []
        lines.append([str(Measure("test", metric)), *ours, "–".join(ends), ", ".join(theirs)])
    return ["metric", *found, "95 % (test)", "published"], lines


def class_table(classes: list[str], by_class: dict) -> tuple[Table, str]:
    """The test scores of each class, and which classes are shown: the best and the worst if there are many."""
    columns = ("precision", "recall", "f1") if "f1" in by_class else ("average_precision", "auc")
    score_K, support_K = by_class["f1" if "f1" in columns else "average_precision"], by_class["support"]
    shown, which = list(range(len(classes))), ""
    if len(classes) > MANY:
        ranked = sorted((k for k in shown if support_K[k]), key=lambda k: -score_K[k])
        half = min(MANY, len(ranked)) // 2
        shown = ranked[:half] + ranked[half - min(MANY, len(ranked)) :]
        which = f"{len(shown)} of {len(classes)}, the best and the worst of those in the test split"
    lines = [[classes[k], *(table.number(by_class[name][k]) for name in columns), f"{support_K[k]:,}"] for k in shown]
    return (["class", *(name.replace("_", " ") for name in columns), "support"], lines), which


def examples(run: Run, sound: clips.Sound | str, media: dict) -> dict[str, list[dict]]:
    """The test examples that the page shows, by kind. Their pictures and sounds go to `media`.

    Each has id, key of its media ("" without any), names of its true classes, and the two most probable classes with
    their probabilities as places.
    """
    path, classes = run.folder / "predictions" / "test.npz", run.result["classes"]
    columns = lambda arrays: [arrays[name] for name in ("id", "offset", "label", "score")]
    id_N, offset_N, label, score = read_arrays(path, columns)
    score_NK = score if score.ndim == 2 else score[0]

    def example(row: int) -> dict:
        true = [label[row]] if label.ndim == 1 else np.flatnonzero(label[row])
        first_two = np.argsort(-score_NK[row], kind="stable")[:2]
        return dict(
            id=scores.printable(str(id_N[row])) + at(sound, offset_N[row]),
            media=add_media(media, run.config["data"], sound, str(id_N[row]), int(offset_N[row])),
            true=", ".join(classes[k] for k in true),
            places=[(classes[k], f"{score_NK[row, k]:.3f}") for k in first_two],
        )

    return {kind: [example(row) for row in rows] for kind, rows in clips.choose(score_NK, label, id_N).items()}


def samples(run: Run, sample_rate_hz: int, media: dict, damaged: list[str]) -> dict[str, list[dict]]:
    """A GAN's clips of each class before training, halfway and at the chosen step, each step once.

    Each clip has a caption and the key of its media.
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
        sounds = lambda arrays: [clips.media(audio_T, sample_rate_hz) for audio_T in arrays["audio"]]
        read = lambda path=path, repair=repair, sounds=sounds: read_arrays(path, sounds, repair)
        for name, sound in zip(found, attempt(read, [], damaged)):
            key = f"{run.row}/{run.protocol}/{name}@{step}"
            media[key] = sound
            found[name].append(dict(media=key, caption=f"{name}, {when} (step {step:,})"))
    return found


def heard(sound: clips.Sound | str) -> str:
    """Says why the examples have no pictures and sounds, or that these are cut; "" if they are complete."""
    if isinstance(sound, str):
        return sound
    longest_s = (sound.window or sound.index.length.max()) / sound.sample_rate_hz
    return f"Clips are cut to their first {clips.LONGEST_S:g} s." if longest_s > clips.LONGEST_S else ""


def at(sound: clips.Sound | str, offset: int) -> str:
    """The place of a window in its clip, such as " at 3.0 s"; "" for whole clips."""
    return "" if isinstance(sound, str) or not sound.window else f" at {offset / sound.sample_rate_hz:.1f} s"


def add_media(media: dict, data: dict, sound: clips.Sound | str, clip: str, offset: int) -> str:
    """Adds an example's picture and sound to `media`, once; returns their key, "" if there are none."""
    audio_T = None if isinstance(sound, str) else clips.cut(sound, clip, offset)
    if audio_T is None:
        return ""
    key = scores.printable(f"{data['name']}/{data['variant']}/{sound.name}/{clip}@{offset}+{len(audio_T)}")
    if key not in media:
        media[key] = clips.media(audio_T, sound.sample_rate_hz)
    return key


def command(run: Run, file: str) -> str:
    """The command of this run, if it changed nothing but protocol, data and seeds. file: the study's config file."""
    config = run.config
    data = {f"data.{key}": config["data"][key] for key in ("variant", "split_seed")}
    settings = {"protocol": config["protocol"], **data, "seed": config["seed"], "replicas": config["replicas"]}
    flags = [f"--config={file}:{config['row']}", "--workdir=DIR"]
    return shlex.join(["python", "launch.py", *flags, *(f"--config.{key}={value}" for key, value in settings.items())])


def example_counts(runs: list[Run]) -> Table:
    """Number of examples in train, valid and test under each protocol; a range if runs differ."""
    parts, lines = ("train", "valid", "test"), []
    for protocol in sorted(unique(run.protocol for run in runs), key=scores.protocol_order):
        counts = [run.result["examples"] for run in runs if run.protocol == protocol]
        lines.append([protocol, *(table.span(count[part] for count in counts) for part in parts)])
    return ["protocol", *parts], lines


def facts(runs: list[Run]) -> list[str]:
    """Sentences on the data: what is absent, left out, converted, and the notes of the runs."""
    absent, skipped, changed = [], [], []
    for counts in [run.result["examples"] for run in runs]:
        absent += [f"{split}: {n:,} examples of the release are absent." for split, n in counts["absent"].items()]
        skipped += [f"{counts['skipped']:,} items could not be read and were left out."] * bool(counts["skipped"])
        changed += [f"{n:,} examples {change}." for change, n in counts["changed"].items()]
    return unique([*absent, *skipped, *changed, *(note for run in runs for note in run.result["notes"])])


def unique(items) -> list:
    """The items without repetitions, in order."""
    return list(dict.fromkeys(items))

"""Figures of the report. On the page they are SVG, readable on light and dark backgrounds."""

import io
import urllib.parse
import warnings
from collections.abc import Iterable

import librosa
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from audiojax.report.grids import Grid
from audiojax.report.scores import PROTOCOLS, Entry, Measure

INK = "#757b85"  # text and axes; in an SVG it follows the reader's theme
THEME = ":root{--ink:#5b636e}@media(prefers-color-scheme:dark){:root{--ink:#9aa4b1}}"
COLOURS = dict(zip(PROTOCOLS, ("#e07b18", "#3b82f6")))
OTHERS = ("#14a38b", "#a371f7", "#d6498f")  # of other protocols
LOSSES = {  # name in metrics.jsonl -> label of the curve, colour
    "train/loss": ("train", COLOURS["paper"]),
    "valid/loss": ("valid", COLOURS["honest"]),
    "train/discriminator_loss": ("discriminator", OTHERS[0]),
}
STYLE = {
    **{"svg.fonttype": "none", "svg.hashsalt": "audiojax", "text.parse_math": False, "font.size": 9},
    **{name: INK for name in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 9, "axes.titlelocation": "left"},
    **{"legend.frameon": False, "legend.fontsize": 8, "axes.linewidth": 0.7},
    **{"xtick.labelsize": 8, "ytick.labelsize": 8},
}
Curve = tuple[np.ndarray, np.ndarray]  # step [S], value [S, replicas]


@matplotlib.rc_context(STYLE)
def learning_curves(curves: dict[str, Curve], metric: str, best_steps: list[int]) -> Figure:
    """Losses and a validation metric over steps: replicas are thin lines, their mean is bold.

    Args:
      curves: "train/loss", "valid/loss", "valid/METRIC", … -> (step [S], value [S, replicas]).
      metric: drawn beside the loss, unless it is the loss. best_steps: the step chosen for each replica.
    """
    panels = {metric: (f"valid/{metric}",), "loss": tuple(LOSSES)}
    panels = {name: panels[name] for name in dict.fromkeys(("loss", metric))}
    figure = Figure((2.75 * len(panels), 2.8), layout="constrained")
    for axes, (name, keys) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        drawn = {key: thinned(*curves[key]) for key in keys if key in curves}
        for key, (step_S, value_SR) in drawn.items():
            label, colour = LOSSES.get(key, (key.split("/")[0], COLOURS["honest"]))
            if value_SR.shape[1] > 1:
                axes.plot(step_S, value_SR, color=colour, linewidth=0.7, alpha=0.4)
            marker = "o" if len(step_S) == 1 else ""  # A line of one point is invisible.
            axes.plot(step_S, np.nanmean(value_SR, 1), color=colour, linewidth=1.8, marker=marker, label=label)
        for number, step in enumerate(sorted(set(best_steps))):
            label = None if number else "chosen"
            axes.axvline(step, color=INK, linewidth=0.8, linestyle=(0, (3, 3)), label=label)
        values = np.concatenate([np.ravel(value_SR) for _, value_SR in drawn.values()] or [np.ones(1)])
        if name == "loss" and values.min() > 0 and values.max() > 20 * values.min():
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
        axes.set(title=str(Measure("test", name)), xlabel="step")
        axes.legend()
    return figure


def thinned(step_S: np.ndarray, value_SR: np.ndarray, points: int = 200) -> Curve:
    """Reduces a curve to at most `points` means of neighbours."""
    bins = np.array_split(np.arange(len(step_S)), min(points, len(step_S)))
    return np.array([step_S[b].mean() for b in bins]), np.array([value_SR[b].mean(0) for b in bins])


@matplotlib.rc_context(STYLE)
def confusion(counts_KK: np.ndarray, classes: list[str]) -> Figure:
    """Confusion matrix of the classes that occur. Rows are the truth, colours are shares of a row."""
    occur = np.flatnonzero(counts_KK.sum(0) + counts_KK.sum(1))
    counts_KK, classes = counts_KK[np.ix_(occur, occur)], [classes[k] for k in occur]
    share_KK = counts_KK / np.maximum(counts_KK.sum(1, keepdims=True), 1)
    side = (0.31 if len(classes) <= 20 else 0.24) * len(classes)
    figure = Figure((side + 1.5, side + 1.3), layout="constrained")
    axes = figure.subplots()
    # An empty cell shows the background.
    axes.imshow(np.ma.masked_equal(share_KK, 0), "Blues", vmin=-0.15, vmax=1, interpolation="none")
    for truth, chosen in np.argwhere(counts_KK):
        colour = "#ffffff" if share_KK[truth, chosen] > 0.5 else "#10151c"
        text = str(counts_KK[truth, chosen])
        axes.text(chosen, truth, text, color=colour, size=9 - len(text), ha="center", va="center")
    numbers = np.arange(len(classes))
    axes.set_xticks(numbers, classes, rotation=90)
    axes.set_yticks(numbers, classes)
    axes.set_xticks(numbers[1:] - 0.5, minor=True)
    axes.set_yticks(numbers[1:] - 0.5, minor=True)
    axes.grid(which="minor", color=INK, alpha=0.2, linewidth=0.5)
    axes.tick_params(which="both", length=0)
    axes.spines[["top", "right"]].set_visible(True)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


@matplotlib.rc_context(STYLE)
def clip(audio_T: np.ndarray, sample_rate_hz: int) -> Figure:
    """Waveform of a clip (int16, scaled to its peak) above its log-mel spectrogram (56 bands, 80 dB)."""
    seconds, columns, bands, n_fft = len(audio_T) / sample_rate_hz, 150, 56, 2048
    x_T = np.pad(audio_T / 32768, (0, max(n_fft - len(audio_T), 0)))
    figure = Figure((3.6, 2.1))
    wave, mel = figure.add_axes((0.15, 0.73, 0.82, 0.26)), figure.add_axes((0.15, 0.17, 0.82, 0.54))

    parts = np.array_split(audio_T, min(columns, len(audio_T)))
    low, high = (np.array([extreme(part) for part in parts], float) for extreme in (np.min, np.max))
    times = np.linspace(0, seconds, len(parts))
    wave.fill_between(times, low, high, color=COLOURS["honest"], linewidth=0.4)
    peak = max(high.max(), -low.min(), 1)
    wave.set(xlim=(0, seconds), ylim=(-peak, peak), xticks=[], yticks=[])
    wave.spines[:].set_visible(False)

    hop = max(len(x_T) // columns, 1)
    power = librosa.feature.melspectrogram(y=x_T, sr=sample_rate_hz, n_fft=n_fft, hop_length=hop, n_mels=bands)
    # Steps of 2 dB look the same and halve the picture's size.
    level_db = 2 * np.round(librosa.power_to_db(power, ref=np.max) / 2)
    mel.imshow(level_db, "magma", aspect="auto", origin="lower", interpolation="none", extent=(0, seconds, 0, bands))
    edges_hz = librosa.mel_frequencies(bands, fmax=sample_rate_hz / 2)
    marks_hz = [hz for hz in (500, 2000, 8000) if hz < sample_rate_hz / 2]
    mel.set_yticks(np.interp(marks_hz, edges_hz, np.arange(bands)), [f"{hz / 1000:g} kHz" for hz in marks_hz])
    mel.xaxis.set_major_locator(MaxNLocator(5))
    mel.set_xlabel("s", labelpad=0)
    mel.tick_params(length=2, labelsize=7)
    return figure


@matplotlib.rc_context(STYLE)
def overview(entries: list[Entry], measure: Measure) -> Figure:
    """A measure of every row: published, and with its 95 % interval under each protocol."""
    figure = Figure((5.5, 0.9 + 0.3 * len(entries)), layout="constrained")
    axes = figure.subplots()
    height = np.arange(len(entries))
    published = [np.nan if (value := entry.published[measure]) is None else value for entry in entries]
    axes.plot(published, height, "D", color=INK, markerfacecolor="none", markersize=6, label="published")
    for protocol, colour in colours(name for entry in entries for name in entry.outcomes).items():
        shown = {
            y: entry.outcomes[protocol].scores[measure]
            for y, entry in enumerate(entries)
            if entry.has(protocol, measure)
        }
        for y, score in shown.items():
            if score.interval:
                axes.hlines(y, *score.interval, color=colour, linewidth=1.4, alpha=0.5)
        axes.plot([score.mean for score in shown.values()], list(shown), "o", color=colour, label=protocol)
    axes.set_yticks(height, [entry.row for entry in entries])
    axes.set_ylim(len(entries) - 0.5, -0.5)
    axes.grid(color=INK, alpha=0.2, linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(str(measure))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    figure.legend(loc="outside upper left", ncols=9)
    return figure


@matplotlib.rc_context(STYLE)
def grids(found: list[Grid]) -> Figure:
    """Range and mean of a measure over the settings of each grid, and the setting that validation chose."""
    rows = list(dict.fromkeys(grid.row for grid in found))
    protocols = colours(grid.protocol for grid in found)
    width = 0.7 / len(protocols)
    figure = Figure((max(5.5, 1.2 + 0.9 * len(rows)), 3.2), layout="constrained")
    axes = figure.subplots()
    for number, (protocol, colour) in enumerate(protocols.items()):
        shown = [grid for grid in found if grid.protocol == protocol]
        place = np.array([rows.index(grid.row) for grid in shown]) + (number - (len(protocols) - 1) / 2) * width
        low, high, mean = (np.array([f(grid.test) for grid in shown]) for f in (np.min, np.max, np.mean))
        axes.bar(place, high - low, 0.8 * width, low, color=colour, alpha=0.35, label=protocol)
        axes.hlines(mean, place - 0.4 * width, place + 0.4 * width, color=colour, linewidth=1.6)
        axes.plot(place, [grid.test[grid.chosen] for grid in shown], "o", color=colour, markersize=5)
    published = {grid.row: grid.published for grid in found if grid.published is not None}
    place = [rows.index(row) for row in published]
    axes.plot(place, list(published.values()), "D", color=INK, markerfacecolor="none", label="published")
    axes.set_xticks(np.arange(len(rows)), rows, rotation=30, ha="right")
    axes.grid(axis="y", color=INK, alpha=0.2, linewidth=0.6)
    axes.set_ylabel(str(found[0].measure))
    handles, names = axes.get_legend_handles_labels()
    handles += [Line2D([], [], color=INK, linewidth=1.6), Line2D([], [], color=INK, marker="o", linewidth=0)]
    figure.legend(handles, [*names, "mean", "chosen on validation"], loc="outside upper left", ncols=3)
    return figure


@matplotlib.rc_context(STYLE)
def reconstructions(image_NHW: np.ndarray, again_NHW: np.ndarray) -> Figure:
    """Images above their reconstructions, in the same range of colours. Row 0 is at the bottom."""
    figure = Figure((1.35 * len(image_NHW), 3.0), layout="constrained")
    for row, images in zip(figure.subplots(2, len(image_NHW), squeeze=False), (image_NHW, again_NHW)):
        for axes, image, original in zip(row, images, image_NHW):
            limits = {"vmin": float(original.min()), "vmax": float(original.max())}
            show_image(axes, image, "magma_r", **limits)
    return figure


@matplotlib.rc_context(STYLE)
def responses(response_HWF: np.ndarray) -> Figure:
    """Activations of each filter, eight in a row, each scaled to its own range."""
    filters = response_HWF.shape[-1]
    rows = -(-filters // 8)
    figure = Figure((7.2, 0.95 * rows), layout="constrained")
    axes_F = figure.subplots(rows, 8, squeeze=False).ravel()
    for number, axes in enumerate(axes_F):
        if number < filters:
            show_image(axes, response_HWF[..., number], "gray")
        else:
            axes.set_axis_off()
    return figure


def show_image(axes, image_HW: np.ndarray, colours: str, **limits) -> None:
    """Draws an image with row 0 at the bottom, thinned to at most 128 pixels a side."""
    steps = (slice(None, None, -(-size // 128)) for size in image_HW.shape)
    image = image_HW[tuple(steps)].astype(float)
    axes.imshow(image, colours, aspect="auto", origin="lower", interpolation="none", **limits)
    axes.set(xticks=[], yticks=[])


@matplotlib.rc_context(STYLE)
def embedding(xy_N2: np.ndarray, label_N: np.ndarray, kept_N: np.ndarray, classes: list[str]) -> Figure:
    """Points coloured by class, with the classes in four panels: all points above, those of `kept_N` below."""
    present = np.unique(label_N)
    panels = [part for part in np.array_split(present, 4) if len(part)]
    figure = Figure((2.1 * len(panels), 4.9), layout="constrained")
    axes_2P = figure.subplots(2, len(panels), squeeze=False, sharex=True, sharey=True)
    for row, shown_N in zip(axes_2P, (np.ones(len(label_N), bool), kept_N)):
        for axes, part in zip(row, panels):
            for number, label in enumerate(part):
                x, y = xy_N2[shown_N & (label_N == label)].T
                colour = matplotlib.colormaps["tab20" if len(part) > 10 else "tab10"](number)
                # The release has thousands of points.
                axes.scatter(x, y, 6, color=colour, label=classes[label], linewidths=0, rasterized=True)
            axes.set(xticks=[], yticks=[])
    for axes in axes_2P[0]:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), fontsize=6, markerscale=1.5, handletextpad=0.1)
    return figure


def colours(protocols: Iterable[str]) -> dict[str, str]:
    """A colour for each protocol."""
    present = {*protocols}
    others = sorted(present - {*PROTOCOLS})
    known = {name: colour for name, colour in COLOURS.items() if name in present}
    return known | {name: OTHERS[number % len(OTHERS)] for number, name in enumerate(others)}


def data_uri(figure: Figure) -> str:
    """A figure as the data URI of an SVG, whose text is set in the reader's fonts."""
    file = io.StringIO()
    with warnings.catch_warnings(), matplotlib.rc_context(STYLE):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # The reader's fonts draw it.
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    head = '<style type="text/css">'
    svg = file.getvalue().replace(head, head + THEME, 1).replace(INK, f"var(--ink, {INK})")
    return "data:image/svg+xml," + urllib.parse.quote(svg, safe=" /:;,.=+-()'!*@&?")

"""The range of every key of a config, checked before anything starts.

`RANGES` has one entry a key. `*` stands for any name, such as that of a protocol. Values inside lists have keys too: an
argument of an augmentation is augment.features.NAME.ARGUMENT, a number of a stage is model.stages.NAME.
"""

import math
import numbers
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from audiojax.errors import ConfigError

INT32, UINT32, INT64 = 2**31, 2**32, 2**63  # devices count steps and sizes in int32, seeds in uint32


class Range(NamedTuple):
    """The values that a key may have: in words, and as a test of a value."""

    words: str
    holds: Callable[[Any], bool]


class Interval(NamedTuple):
    """Finite numbers between two bounds. True and False are not numbers.

    ends: "[" and "]" include the lower and upper bound, "(" and ")" exclude it.
    """

    low: float = -math.inf
    high: float = math.inf
    ends: str = "()"
    whole: bool = False

    @property
    def words(self) -> str:
        written = lambda bound: f"2**{bound.bit_length() - 1}" if bound in (INT32, UINT32, INT64) else f"{bound:,}"
        bounds = [f"{'at least' if self.ends[0] == '[' else 'above'} {written(self.low)}"] * (self.low > -math.inf)
        bounds += [f"{'at most' if self.ends[1] == ']' else 'below'} {written(self.high)}"] * (self.high < math.inf)
        if self.whole:
            return " and ".join(bounds) + ", a whole number"
        return " and ".join(bounds + ["finite"] * math.isinf(self.high - self.low))

    def holds(self, value: Any) -> bool:
        kind = numbers.Integral if self.whole else numbers.Real
        if isinstance(value, bool) or not isinstance(value, kind) or not (self.whole or math.isfinite(value)):
            return False
        above = self.low <= value if self.ends[0] == "[" else self.low < value
        return above and (value <= self.high if self.ends[1] == "]" else value < self.high)


def whole(low: int, high: int = INT32) -> Interval:
    """Whole numbers from `low` up to, not including, `high`."""
    return Interval(low, high, "[)", whole=True)


def one_of(*values) -> Range:
    """These values only. 1 is not True."""
    holds = lambda value: any(type(value) is type(known) and value == known for known in values)
    return Range(" or ".join(map(repr, values)), holds)


def either(one: Interval | Range, other: Interval | Range) -> Range:
    """Values of one range or of the other."""
    return Range(f"{one.words} or {other.words}", lambda value: one.holds(value) or other.holds(value))


def each(range_: Interval | Range, least: int = 0, most: float = math.inf) -> Range:
    """Lists of `least` to `most` values of a range."""
    count = f"{least} " if least == most else f"{least} or more " if least else ""
    length = lambda value: isinstance(value, (list, tuple)) and least <= len(value) <= most
    holds = lambda value: length(value) and all(map(range_.holds, value))
    return Range(f"a list of {count}values, each {range_.words}", holds)


def is_stage(value: Any) -> bool:
    """Whether a value is a list that begins with a name."""
    return isinstance(value, (list, tuple)) and len(value) > 0 and isinstance(value[0], str)


def is_pair(value: Any) -> bool:
    """Whether a value is a list of a name and a list of values."""
    return is_stage(value) and len(value) == 2 and isinstance(value[1], (list, tuple)) and len(value[1]) > 0


def listed(words: str, holds: Callable[[Any], bool]) -> Range:
    """Lists of values that `holds` accepts."""
    return Range(words, lambda value: isinstance(value, (list, tuple)) and all(map(holds, value)))


FLAG = Range("True or False", lambda value: isinstance(value, bool))
NAME = Range("a text", lambda value: isinstance(value, str))
NAMES = each(NAME)
NUMBER = Interval()
ABOVE_0, FROM_0 = Interval(0), Interval(0, ends="[)")
SHARE, BELOW_1, INSIDE = Interval(0, 1, "[]"), Interval(0, 1, "[)"), Interval(0, 1)
COUNT, COUNT_OR_0 = whole(1), whole(0)
SIZES = each(COUNT)
STEPS = listed(
    "a list of sections, each with a name, such as ({'name': 'mixup', 'alpha': 1.0},)",
    lambda step: isinstance(step, dict) and isinstance(step.get("name"), str),
)
STAGES = listed('a list of stages, each with its name first, such as (("dense", 512), ("dropout", 0.5))', is_stage)
GRID = listed('pairs such as ("optim.lr", (1e-4, 1e-3))', is_pair)
GROUPS = listed('pairs such as ("music", ("Cello", "Flute"))', lambda pair: is_pair(pair) and NAMES.holds(pair[1]))

FRONTEND = {
    "name": NAME,
    **dict.fromkeys(("sample_rate_hz", "hop_samples", "mels", "coefficients"), COUNT),
    **dict.fromkeys(("height", "width", "frames", "samples"), COUNT),
    "n_fft": whole(2),
    **dict.fromkeys(("centred", "normalise"), FLAG),
    "reference": either(ABOVE_0, one_of("max")),
    "top_db": either(FROM_0, one_of(None)),
    "range_db": ABOVE_0,
    "divisor": either(ABOVE_0, Interval(high=0)),
    "compression": FROM_0,
    **dict.fromkeys(("low", "high"), NUMBER),
}
AUGMENT = {
    "*.name": NAME,
    "roll.steps": COUNT_OR_0,
    "roll.stride": COUNT,
    "flip_polarity.probability": SHARE,
    "mixup.alpha": Interval(0.001, 1000, "[]"),  # beyond it, weights are drawn as 0, a half or NaN
    **dict.fromkeys(("spec_augment.time_masks", "spec_augment.time_width"), COUNT_OR_0),
    **dict.fromkeys(("spec_augment.frequency_masks", "spec_augment.frequency_width"), COUNT_OR_0),
}
OPTIM = {
    **dict.fromkeys(("name", "schedule"), NAME),
    "b1": BELOW_1,
    "lr": ABOVE_0,
    **dict.fromkeys(("warmup", "average_share"), SHARE),
    **dict.fromkeys(("weight_decay", "clip_norm"), FROM_0),
}
MODEL = {
    **dict.fromkeys(("name", "kernel_init", "cell", "pooling", "label"), NAME),
    **dict.fromkeys(("standardise", "statistics", "normalise", "spectral", "projection", "sigmoid"), FLAG),
    **dict.fromkeys(("hidden", "dense", "lstm", "recurrent", "filters", "gated", "pools"), SIZES),
    **dict.fromkeys(("pool", "kernel", "latent"), COUNT),
    **dict.fromkeys(("heads", "embedding"), COUNT_OR_0),
    **dict.fromkeys(("dropout", "input_dropout", "lstm_dropout", "dense_dropout"), BELOW_1),
    "negative_slope": SHARE,
    "head": one_of("average", "flatten"),
    "levels": each(COUNT, least=1),
    **dict.fromkeys(("stages", "generator_stages", "discriminator_stages"), STAGES),
    **dict.fromkeys(("stages.conv", "stages.dense", "stages.pool", "stages.recurrent"), COUNT),
    **dict.fromkeys(("stages.conv.activation", "stages.dense.activation"), NAME),
    "stages.dropout": BELOW_1,
    **dict.fromkeys(("generator_stages.conv", "generator_stages.dense", "generator_stages.steps"), COUNT),
    **dict.fromkeys(("discriminator_stages.conv", "discriminator_stages.dense"), COUNT),
}
RECIPE = {
    **dict.fromkeys(("name", "mean", "generator", "judge", "encoder", "labelled", "truth_file"), NAME),
    "members": each(NAME, least=1),
    **dict.fromkeys(("clips", "iterations"), COUNT),
    "groups": GROUPS,
    "promote": NAMES,
    **dict.fromkeys(("unit_latents", "warm_start", "agreeing"), FLAG),
    "spreading.kernel": NAME,
    "spreading.gamma": ABOVE_0,
    "spreading.alpha": INSIDE,
    "spreading.tol": FROM_0,
    **dict.fromkeys(("spreading.n_neighbors", "spreading.max_iter"), COUNT),
    "lower": each(SHARE, 2, 2),
    "upper": SHARE,
}
DATA = {
    **dict.fromkeys(("name", "split_file", "test_fold", "group_file", "label_file"), NAME),
    "variant": one_of("released", "stand_in"),
    "split_seed": whole(0, INT64),
    "strict": FLAG,
    **dict.fromkeys(("hide.share", "hide.wrong"), SHARE),
    "subset_weights.*": FROM_0,
    "exclude_classes": NAMES,
    **dict.fromkeys(("segment.seconds", "segment.hop_s", "segment.shortest_s"), Interval(0, 86_400, "[]")),
    "segment.pad": NAME,
    **{f"protocols.*.{key}": NAME for key in ("train", "valid", "test", "unit", "judged")},
    **dict.fromkeys(("protocols.*.valid_fraction", "protocols.*.test_fraction"), BELOW_1),
    "protocols.*.spread_valid": FLAG,
}
RANGES = {
    **dict.fromkeys(("study", "row", "protocol", "start_from", "select", "dtype", "task.name", "task.loss"), NAME),
    "seed": whole(0, UINT32),
    **dict.fromkeys(("replicas", "batch_size", "eval_batch_size", "task.piece_frames"), COUNT),
    "grid": GRID,
    "published.*.*": NUMBER,
    **dict.fromkeys(("augment.waveform", "augment.features"), STEPS),
    "task.prior_bias": FLAG,
    "task.positive_weight": ABOVE_0,
    "task.competition": SHARE,
    "epochs": FROM_0,
    **dict.fromkeys(("steps", "early_stopping"), COUNT_OR_0),
    "examples": whole(0, INT64),
    "eval_every": ABOVE_0,
    "run.source": one_of("auto", "resident", "stream"),
    **dict.fromkeys(("run.steps_per_call", "run.cpu_devices", "run.keep"), COUNT),
    "run.malloc": one_of("keep", "huge_pages", "system"),
    "run.trackers": NAMES,
    "run.members": NAME,
    "run.first_layer": FLAG,
} | {
    f"{section}.{key}": range_
    for section, ranges in {
        "data": DATA,
        "frontend": FRONTEND,
        "task.embedding": FRONTEND,
        "augment.waveform": AUGMENT,
        "augment.features": AUGMENT,
        "model": MODEL,
        "recipe": RECIPE,
        "optim": OPTIM,
        "task.discriminator": OPTIM,
    }.items()
    for key, range_ in ranges.items()
}
SECTIONS = {key[:end] for key in RANGES for end, character in enumerate(key) if character == "."}
UNTRAINED = ("ensemble", "label_spreading")  # recipes that train nothing; these keys may then be 0:
TRAINING_KEYS = ("optim.lr", "batch_size", "eval_batch_size")
ORDERED = {  # the lesser key of a section, the greater one, and whether they may be equal
    "low": ("high", False),
    "hop_samples": ("n_fft", True),
    "coefficients": ("mels", True),
}


def check(config) -> None:
    """Checks the range of every value of a config, and whether values fit each other.

    Keys that are not in `RANGES` are not checked. The config of a study, without a row, may lack what training needs.

    Raises:
      ConfigError: names the key, its value and what it must be.
    """
    config = config.to_dict()
    settings = list(list_settings(config))
    trains = config.get("row") and dict(settings).get("recipe.name") not in UNTRAINED
    for key, value in settings:
        allowed = range_of(key)
        if allowed and not allowed.holds(value) and (trains or key not in TRAINING_KEYS or value != 0):
            raise ConfigError(f"{key}={value!r} must be {allowed.words}.")
    for sentence in (*disorders(dict(settings)), *conflicts(config)):
        raise ConfigError(sentence)


def range_of(key: str) -> Interval | Range | None:
    """The range of a key; None where `RANGES` has none."""
    patterns = (pattern for pattern in RANGES if "*" in pattern)
    return RANGES.get(key) or next((RANGES[pattern] for pattern in patterns if matches(key, pattern)), None)


def matches(key: str, pattern: str) -> bool:
    """Whether a key fits a pattern, in which `*` stands for any name."""
    names, parts = key.split("."), pattern.split(".")
    return len(names) == len(parts) and all(part in (name, "*") for name, part in zip(names, parts))


def list_settings(section: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Key and value of everything in a section, of its subsections, and of the lists of augmentations, stages and grid.

    Raises:
      ConfigError: a value in place of a section.
    """
    for name, value in section.items():
        key = f"{prefix}{name}"
        allowed = range_of(key)
        if allowed is None and isinstance(value, dict):
            yield from list_settings(value, f"{key}.")
            continue
        if allowed is None and any(matches(key, pattern) for pattern in SECTIONS):
            raise ConfigError(f"{key}={value!r} must be a section, with keys of its own.")
        yield key, value
        if allowed not in (STEPS, STAGES, GRID) or not allowed.holds(value):
            continue
        for item in value:
            if allowed is STEPS:
                yield from list_settings(item, f"{key}.{item['name']}.")
            elif allowed is GRID:
                yield from ((item[0], choice) for choice in item[1])
            else:
                stage, *arguments = item
                if len(arguments) > 1 and isinstance(arguments[-1], str):
                    yield f"{key}.{stage}.activation", arguments.pop()
                yield from ((f"{key}.{stage}", number) for number in arguments)


def disorders(settings: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the order of two values of a section."""
    for key, low in settings.items():
        prefix, _, name = key.rpartition(".")
        other, equal = ORDERED.get(name, (None, False))
        greater = f"{prefix}.{other}"
        if greater in settings and range_of(key) and range_of(greater):
            high = settings[greater]
            if low > high or (low == high and not equal):
                yield f"{key}={low!r} must be {'at most' if equal else 'below'} {greater}={high!r}."


def conflicts(config: dict) -> Iterator[str]:
    """What is wrong between values of different sections."""
    seed, replicas = config.get("seed", 0), config.get("replicas", 1)
    if seed + replicas > UINT32 and not config.get("grid"):
        yield f"seed={seed} must be at most {UINT32 - replicas:,}, so that replicas={replicas} seeds stay below 2**32."
    keys = [key for key, _ in config.get("grid", ())]
    if twice := {key for key in keys if keys.count(key) > 1}:
        yield f"grid has {', '.join(sorted(twice))} twice; give all values of a key in one pair."
    data, model, recipe = (config.get(name, {}) for name in ("data", "model", "recipe"))
    for name, protocol in data.get("protocols", {}).items():
        for part in ("valid", "test"):
            is_cut = part in protocol and protocol[part] == protocol.get("train") and not data.get("split_file")
            if is_cut and not protocol.get(f"{part}_fraction"):
                yield (
                    f"data.protocols.{name}.{part}_fraction={protocol.get(f'{part}_fraction')} must be above 0, for"
                    f" {part} is cut from the clips of train."
                )
    if recipe.get("name") == "self_training" and max(recipe.get("lower", (0,))) > recipe.get("upper", 1):
        yield f"recipe.lower={recipe['lower']} must be at most recipe.upper={recipe['upper']}."
    if model.get("label") == "embedding" and model.get("embedding") == 0:
        yield "model.embedding=0 must be at least 1 where model.label='embedding'."

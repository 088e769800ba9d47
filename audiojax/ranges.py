"""The range of every configuration key, checked before anything starts.

`RANGES` has one entry a key. A `*` stands for a name of the user's, such as that of a protocol. What stands in a list
has a key of its own: a step of an augmentation list is AUGMENT.NAME.ARGUMENT, a number of a stage is STAGES.NAME.
"""

import math
import numbers
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from audiojax.errors import ConfigError

INT32, UINT32, INT64 = 2**31, 2**32, 2**63  # steps and sizes are int32 on a device, seeds uint32


class Range(NamedTuple):
    """The values that a key may have. words: what it must be. holds: whether a value is one of them."""

    words: str
    holds: Callable[[Any], bool]


class Interval(NamedTuple):
    """Finite numbers between two bounds, whole ones or all; True and False are none.

    ends: "[" or "]" where a bound is one of them, "(" or ")" where it is not.
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
    """Whole numbers from `low` to below `high`."""
    return Interval(low, high, "[)", whole=True)


def one_of(*values) -> Range:
    """These values alone; 1 is not True."""
    known = lambda value: any(type(value) is type(each) and value == each for each in values)
    return Range(" or ".join(map(repr, values)), known)


def either(one: Interval | Range, other: Interval | Range) -> Range:
    """What is in one range or in another."""
    return Range(f"{one.words} or {other.words}", lambda value: one.holds(value) or other.holds(value))


def each(range_: Interval | Range, least: int = 0, most: float = math.inf) -> Range:
    """Lists of values of a range, as many as `least` to `most`."""
    count = f"{least} " if least == most else f"{least} or more " if least else ""
    length = lambda value: isinstance(value, (list, tuple)) and least <= len(value) <= most
    holds = lambda value: length(value) and all(map(range_.holds, value))
    return Range(f"a list of {count}values, each {range_.words}", holds)


def is_named(value: Any) -> bool:
    """Whether a value is a section with a name."""
    return isinstance(value, dict) and isinstance(value.get("name"), str)


def is_stage(value: Any) -> bool:
    """Whether a value is a list that begins with a name."""
    return isinstance(value, (list, tuple)) and len(value) > 0 and isinstance(value[0], str)


def is_pair(value: Any) -> bool:
    """Whether a value is a name and a list that is not empty."""
    return is_stage(value) and len(value) == 2 and isinstance(value[1], (list, tuple)) and len(value[1]) > 0


def listed(words: str, holds: Callable[[Any], bool]) -> Range:
    """Lists of such values. words: what the list must be."""
    return Range(words, lambda value: isinstance(value, (list, tuple)) and all(map(holds, value)))


FLAG = Range("True or False", lambda value: isinstance(value, bool))
NAME = Range("a text", lambda value: isinstance(value, str))
NAMES = each(NAME)
NUMBER = Interval()
ABOVE_0, FROM_0 = Interval(0), Interval(0, ends="[)")
SHARE, BELOW_1, INSIDE = Interval(0, 1, "[]"), Interval(0, 1, "[)"), Interval(0, 1)
COUNT, COUNT_OR_0 = whole(1), whole(0)
DECIBELS = Interval(-200, 200, "[]")
SIZES = each(COUNT)
STEPS = listed("a list of sections, each with a name, such as ({'name': 'mixup', 'alpha': 1.0},)", is_named)
STAGES = listed('a list of stages, each with its name first, such as (("dense", 512), ("dropout", 0.5))', is_stage)
GRID = listed('pairs such as ("optim.lr", (1e-4, 1e-3))', is_pair)
GROUPS = listed('pairs such as ("music", ("Cello", "Flute"))', lambda pair: is_pair(pair) and NAMES.holds(pair[1]))

FRONTEND = {
    "name": NAME,
    "sample_rate_hz": COUNT,
    "n_fft": whole(2),
    "hop_samples": COUNT,
    "centred": FLAG,
    "mels": COUNT,
    "low_hz": FROM_0,
    "high_hz": either(ABOVE_0, one_of(None)),
    "coefficients": COUNT,
    "deltas": whole(0, 3),
    "reference": either(ABOVE_0, one_of("max")),
    "top_db": either(FROM_0, one_of(None)),
    "range_db": ABOVE_0,
    "normalise": FLAG,
    "divisor": either(ABOVE_0, Interval(high=0)),
    "power": one_of(1.0, 2.0),
    "height": COUNT,
    "width": COUNT,
    "frames": COUNT,
    "samples": COUNT,
    "compression": FROM_0,
    "low": NUMBER,
    "high": NUMBER,
}
AUGMENT = {
    "roll.steps": COUNT_OR_0,
    "roll.stride": COUNT,
    "flip_polarity.probability": SHARE,
    "mixup.alpha": Interval(0.001, 1000, "[]"),  # beyond it draws of the weight are 0, a half or no number
    "spec_augment.time_masks": COUNT_OR_0,
    "spec_augment.time_width": COUNT_OR_0,
    "spec_augment.frequency_masks": COUNT_OR_0,
    "spec_augment.frequency_width": COUNT_OR_0,
    "gain.low_db": DECIBELS,
    "gain.high_db": DECIBELS,
    "noise.low_db": DECIBELS,
    "noise.high_db": DECIBELS,
    "crop.steps": COUNT,
}
OPTIM = {
    "name": NAME,
    "b1": BELOW_1,
    "lr": ABOVE_0,
    "schedule": NAME,
    "warmup": SHARE,
    "weight_decay": FROM_0,
    "clip_norm": FROM_0,
    "average_share": SHARE,
}
MODEL = {
    "name": NAME,
    "kernel_init": NAME,
    "standardise": FLAG,
    "hidden": SIZES,
    "dense": SIZES,
    "lstm": SIZES,
    "recurrent": SIZES,
    "cell": NAME,
    "filters": SIZES,
    "gated": SIZES,
    "pools": SIZES,
    "pool": COUNT,
    "kernel": COUNT,
    "negative_slope": SHARE,
    "head": one_of("average", "flatten"),
    "levels": each(COUNT, least=1),
    "pooling": NAME,
    "heads": COUNT_OR_0,
    "statistics": FLAG,
    "dropout": BELOW_1,
    "input_dropout": BELOW_1,
    "lstm_dropout": BELOW_1,
    "dense_dropout": BELOW_1,
    "latent": COUNT,
    "label": NAME,
    "embedding": COUNT_OR_0,
    "normalise": FLAG,
    "spectral": FLAG,
    "projection": FLAG,
    "sigmoid": FLAG,
    "stages": STAGES,
    "stages.conv": COUNT,
    "stages.conv.activation": NAME,
    "stages.dense": COUNT,
    "stages.dense.activation": NAME,
    "stages.pool": COUNT,
    "stages.recurrent": COUNT,
    "stages.dropout": BELOW_1,
    "generator_stages": STAGES,
    "generator_stages.conv": COUNT,
    "generator_stages.dense": COUNT,
    "generator_stages.steps": COUNT,
    "discriminator_stages": STAGES,
    "discriminator_stages.conv": COUNT,
    "discriminator_stages.dense": COUNT,
}
RECIPE = {
    "name": NAME,
    "members": each(NAME, least=1),
    "mean": NAME,
    "generator": NAME,
    "judge": NAME,
    "clips": COUNT,
    "encoder": NAME,
    "labelled": NAME,
    "groups": GROUPS,
    "promote": NAMES,
    "unit_latents": FLAG,
    "truth_file": NAME,
    "spreading.kernel": NAME,
    "spreading.gamma": ABOVE_0,
    "spreading.n_neighbors": COUNT,
    "spreading.alpha": INSIDE,
    "spreading.max_iter": COUNT,
    "spreading.tol": FROM_0,
    "iterations": COUNT,
    "warm_start": FLAG,
    "agreeing": FLAG,
    "lower": each(SHARE, 2, 2),
    "upper": SHARE,
}
DATA = {
    "name": NAME,
    "variant": NAME,
    "split_seed": whole(0, INT64),
    "split_file": NAME,
    "test_fold": NAME,
    "group_file": NAME,
    "strict": FLAG,
    "hide.share": SHARE,
    "hide.wrong": SHARE,
    "label_file": NAME,
    "subset_weights.*": FROM_0,
    "exclude_classes": NAMES,
    "segment.seconds": Interval(0, 86_400, "[]"),
    "segment.hop_s": Interval(0, 86_400, "[]"),
    "segment.shortest_s": Interval(0, 86_400, "[]"),
    "segment.pad": NAME,
    "protocols.*.train": NAME,
    "protocols.*.valid": NAME,
    "protocols.*.test": NAME,
    "protocols.*.unit": NAME,
    "protocols.*.valid_fraction": BELOW_1,
    "protocols.*.test_fraction": BELOW_1,
    "protocols.*.judged": NAME,
    "protocols.*.spread_valid": FLAG,
}
RANGES = {
    "study": NAME,
    "row": NAME,
    "seed": whole(0, UINT32),
    "replicas": COUNT,
    "grid": GRID,
    "protocol": NAME,
    "published.*.*": NUMBER,
    "start_from": NAME,
    "augment.waveform": STEPS,
    "augment.features": STEPS,
    "task.name": NAME,
    "task.loss": NAME,
    "task.prior_bias": FLAG,
    "task.positive_weight": ABOVE_0,
    "task.competition": SHARE,
    "task.piece_frames": COUNT,
    "batch_size": COUNT,
    "eval_batch_size": COUNT,
    "epochs": FROM_0,
    "steps": COUNT_OR_0,
    "examples": whole(0, INT64),
    "eval_every": ABOVE_0,
    "early_stopping": COUNT_OR_0,
    "select": NAME,
    "dtype": NAME,
    "run.source": one_of("auto", "resident", "stream"),
    "run.steps_per_call": COUNT,
    "run.cpu_devices": COUNT,
    "run.keep": COUNT,
    "run.malloc": one_of("keep", "huge_pages", "system"),
    "run.trackers": NAMES,
    "run.members": NAME,
} | {
    f"{section}.{key}": range_
    for section, ranges in {
        "data": DATA,
        "frontend": FRONTEND,
        "task.embedding": FRONTEND,
        "augment.waveform": {"*.name": NAME} | AUGMENT,
        "augment.features": {"*.name": NAME} | AUGMENT,
        "model": MODEL,
        "recipe": RECIPE,
        "optim": OPTIM,
        "task.discriminator": OPTIM,
    }.items()
    for key, range_ in ranges.items()
}
SECTIONS = {key[:end] for key in RANGES for end, character in enumerate(key) if character == "."}
UNTRAINED = ("ensemble", "label_spreading")  # Recipes without a step of training, in which these keys may be 0:
OF_TRAINING = ("optim.lr", "batch_size", "eval_batch_size")
ORDERED = {  # the lesser key of a section, the greater one, and whether they may be equal
    "low": ("high", False),
    "low_hz": ("high_hz", False),
    "low_db": ("high_db", True),
    "hop_samples": ("n_fft", True),
    "coefficients": ("mels", True),
}


def check(config) -> None:
    """Raises ConfigError where a value of a config is out of its range, or where two values do not fit each other.

    Keys that `RANGES` does not have are left alone. What trains needs a rate and batches; the config of a study, which
    has no row, does not yet have them.
    """
    config = config.to_dict()
    values = list(settings(config))
    recipe = next((value for key, value in values if key == "recipe.name"), None)
    trains = config.get("row") and recipe not in UNTRAINED
    for key, value in values:
        allowed = range_of(key)
        if allowed and not allowed.holds(value) and (trains or key not in OF_TRAINING or value != 0):
            raise ConfigError(f"{key}={value!r} must be {allowed.words}.")
    for prefix, section in sections(config):
        if wrong := disorder(prefix, section):
            raise ConfigError(wrong)
    if wrong := conflict(config):
        raise ConfigError(wrong)


def range_of(key: str) -> Interval | Range | None:
    """The range of a key; None where `RANGES` has none."""
    return RANGES.get(key) or next((RANGES[each] for each in RANGES if "*" in each and matches(key, each)), None)


def matches(key: str, pattern: str) -> bool:
    """Whether a key is of a pattern, in which a `*` stands for any name."""
    names, own = key.split("."), pattern.split(".")
    return len(names) == len(own) and all(one in (name, "*") for name, one in zip(names, own))


def sections(section: dict, prefix: str = "") -> Iterator[tuple[str, dict]]:
    """Every section of a config, each with what its keys begin with; steps of lists of augmentations are some too."""
    yield prefix, section
    for name, value in section.items():
        key = f"{prefix}{name}"
        if range_of(key) is STEPS:
            for step in value if STEPS.holds(value) else ():
                yield from sections(step, f"{key}.{step['name']}.")
        elif isinstance(value, dict) and range_of(key) is None:
            yield from sections(value, f"{key}.")


def settings(config: dict) -> Iterator[tuple[str, Any]]:
    """Every key of a config that is no section, with its value; then what stands in a list of stages or in the grid.

    Raises:
      ConfigError: a value in place of a section.
    """
    for prefix, section in sections(config):
        for name, value in section.items():
            key = f"{prefix}{name}"
            allowed = range_of(key)
            if allowed is None and isinstance(value, dict):
                continue
            if allowed is None and any(matches(key, each) for each in SECTIONS):
                raise ConfigError(f"{key}={value!r} must be a section, with keys of its own.")
            yield key, value
            if allowed is STAGES and STAGES.holds(value):
                for kind, *own in value:
                    if len(own) > 1 and isinstance(own[-1], str):
                        yield f"{key}.{kind}.activation", own.pop()
                    yield from ((f"{key}.{kind}", number) for number in own)
            if allowed is GRID and GRID.holds(value):
                yield from ((other, each) for other, values in value for each in values)


def disorder(prefix: str, section: dict) -> str | None:
    """What is wrong with the order of a section's values, each of which is in its range."""
    for lesser, (greater, equal) in ORDERED.items():
        low, high = section.get(lesser), section.get(greater)
        known = range_of(prefix + lesser) and range_of(prefix + greater)
        if known and None not in (low, high) and not (low < high or (equal and low == high)):
            most = "at most" if equal else "below"
            return f"{prefix}{lesser}={low!r} must be {most} {prefix}{greater}={high!r}."
    for key in ("low_hz", "high_hz"):
        value, rate = section.get(key), section.get("sample_rate_hz")
        if range_of(prefix + key) and None not in (value, rate) and value > rate / 2:
            return f"{prefix}{key}={value!r} must be at most {rate / 2}, half of {prefix}sample_rate_hz={rate}."
    return None


def conflict(config: dict) -> str | None:
    """What is wrong between values of a config, each of which is in its range."""
    seed, replicas = config.get("seed", 0), config.get("replicas", 1)
    if seed + replicas > UINT32 and not config.get("grid"):
        return f"seed={seed} must be at most {UINT32 - replicas:,}, so that replicas={replicas} seeds stay below 2**32."
    keys = [key for key, _ in config.get("grid", ())]
    if twice := {key for key in keys if keys.count(key) > 1}:
        return f"grid has {', '.join(sorted(twice))} twice; give all values of a key in one pair."
    data, model, recipe = (config.get(name, {}) for name in ("data", "model", "recipe"))
    for name, protocol in data.get("protocols", {}).items():
        for part in ("valid", "test"):
            cut = part in protocol and protocol[part] == protocol.get("train") and not data.get("split_file")
            if cut and not protocol.get(f"{part}_fraction", 0):
                return (
                    f"data.protocols.{name}.{part}_fraction={protocol.get(f'{part}_fraction')} must be above 0,"
                    f" for {part} is cut from the clips of train."
                )
    if recipe.get("name") == "self_training" and max(recipe.get("lower", (0,))) > recipe.get("upper", 1):
        return f"recipe.lower={recipe['lower']} must be at most recipe.upper={recipe['upper']}."
    if model.get("label") == "embedding" and model.get("embedding") == 0:
        return "model.embedding=0 must be at least 1 where model.label='embedding'."
    return None

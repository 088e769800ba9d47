"""Every key of every row has a range; what lies outside is refused in one sentence before anything starts."""

import importlib
import math
import pathlib
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from audiojax import command_line, ranges, study
from audiojax.errors import ConfigError
from configs import li_audioset
from tests.conftest import ROOT, config_of, launch

STUDIES = {
    path.stem: importlib.import_module(f"configs.{path.stem}")
    for path in sorted(pathlib.Path(ROOT / "configs").glob("[!_]*_*.py"))
}
ROWS = [(study, row) for study, module in STUDIES.items() for row in (None, *module.ROWS)]


def leaves(tree, path=()):
    """Path and value of what is neither a section nor a list."""
    if not isinstance(tree, (dict, tuple)):
        yield path, tree
        return
    for part, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield from leaves(value, (*path, part))


def key_of(config: dict, path: tuple) -> str:
    """The key of `RANGES` that a leaf belongs to."""
    names, value = [], config
    for part in path:
        value = value[part]
        if isinstance(part, str):
            names.append(part)
        elif isinstance(value, dict):
            names.append(value["name"])
        elif isinstance(value, tuple) and value and isinstance(value[0], str):
            names.append(value[0])
    return ".".join(names[names[0] == "grid" :])


def with_value(tree, path: tuple, value):
    """The same tree with another value at a path."""
    if not path:
        return value
    if isinstance(tree, dict):
        return tree | {path[0]: with_value(tree.get(path[0]), path[1:], value)}
    return (*tree[: path[0]], with_value(tree[path[0]], path[1:], value), *tree[path[0] + 1 :])


def numbers_of_rows() -> dict:
    """An example of every numeric key: key -> (config, path)."""
    found = {}
    for name, row in ((name, row) for name, row in ROWS if row):
        config = STUDIES[name].get_config(row).to_dict()
        for path, value in leaves(config):
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                found.setdefault(key_of(config, path), (config, path))
    return found


NUMBERS = numbers_of_rows()


def refusal(config: dict) -> str:
    """The sentence with which a config is refused."""
    with pytest.raises(ConfigError) as raised:
        ranges.check(ConfigDict(config))
    return str(raised.value)


@pytest.mark.parametrize(("study", "row"), ROWS)
def test_every_key_has_a_range_and_every_row_is_within(study, row):
    config = STUDIES[study].get_config(row)
    unknown = [key for key, _ in ranges.list_settings(config.to_dict()) if ranges.range_of(key) is None]
    assert not unknown, f"add to audiojax/ranges.py the ranges of {unknown}"
    ranges.check(config)


@pytest.mark.parametrize("key", NUMBERS)
def test_no_numeric_key_takes_what_is_no_number_or_out_of_range(key):
    config, path = NUMBERS[key]
    allowed = ranges.range_of(key)
    assert allowed, f"add to audiojax/ranges.py the range of {key}"
    wrong = [math.nan, math.inf, -math.inf, "high", (), {}, True]
    wrong += [] if allowed.holds(None) else [None]
    wrong += [0, 2.5] if allowed.words.startswith("a list of values, each at least 1") else []
    if isinstance(allowed, ranges.Interval):
        wrong += outside(allowed)
        assert all(allowed.holds(end) for end in inside(allowed))
    activation = key.startswith("model.stages.conv")  # A text that ends a stage names its activation.
    for value in wrong:
        if not (activation and value == "high"):
            name = key_of(with_value(config, path, 1), path[:2])
            assert refusal(with_value(config, path, value)).startswith((key, name)), value


def step(value: float, interval: ranges.Interval, upwards: bool) -> float:
    """The next number."""
    if interval.whole:
        return value + (1 if upwards else -1)
    return math.nextafter(value, math.inf if upwards else -math.inf)


def outside(interval: ranges.Interval) -> list[float]:
    """The nearest numbers outside, and of whole numbers one that is none."""
    low = [] if interval.low == -math.inf else [interval.low]
    high = [] if interval.high == math.inf else [interval.high]
    low = [step(end, interval, False) if interval.ends[0] == "[" else end for end in low]
    high = [step(end, interval, True) if interval.ends[1] == "]" else end for end in high]
    return low + high + [interval.low + 0.5] * interval.whole


def inside(interval: ranges.Interval) -> list[float]:
    """The outermost numbers inside."""
    low = [] if interval.low == -math.inf else [interval.low]
    high = [] if interval.high == math.inf else [interval.high]
    low = [end if interval.ends[0] == "[" else step(end, interval, True) for end in low]
    return low + [end if interval.ends[1] == "]" else step(end, interval, False) for end in high]


REFUSED = {
    "optim.lr": [-0.001, 0.0],
    "optim.b1": [-0.1, 1.0],
    "optim.warmup": [-0.1, 1.5],
    "optim.clip_norm": [-1.0],
    "optim.weight_decay": [-1e-4],
    "optim.average_share": [-1.0, 1.5],
    "model.dropout": [-0.1, 1.0, 50.0],
    "model.hidden": [(0,), (8, -1), (8.5,), ("8",), None],
    "seed": [-1, 2**32],
    "replicas": [0],
    "run.cpu_devices": [0],
    "batch_size": [0],
    "eval_batch_size": [0],
    "epochs": [-1.0, math.nan],
    "eval_every": [0.0, math.nan],
    "early_stopping": [-1],
    "run.keep": [0],
    "run.source": ["river"],
    "run.malloc": [""],
    "run.steps_per_call": [0],
    "task.competition": [-0.1, 1.1],
    "task.positive_weight": [0.0],
    "task.prior_bias": [1, "yes", None],
    "data.split_seed": [-1],
    "data.hide.share": [1.5],
    "data.segment.seconds": [-1.0, math.nan],
    "data.exclude_classes": ["a", (1,), None],
    "data.protocols.honest.valid_fraction": [-0.1, 0.0, 1.0, 30.0],
    "data.name": [3, None],
    "data.subset_weights": [None, (1,)],
    "augment.features": [
        None,
        "mixup",
        ("name", "alpha"),
        ({"alpha": 1.0},),
        *(({"name": "mixup", "alpha": alpha},) for alpha in (0.0, -1.0, math.nan, "1", None)),
        ({"name": "spec_augment", "time_masks": -1},),
        ({"name": "flip_polarity", "probability": 1.1},),
        ({"name": "roll", "steps": 3, "stride": 1}, {"name": "roll", "steps": 2.5, "stride": 1}),
    ],
    "grid": [
        None,
        (("optim.lr", 0.1),),
        (("optim.lr", ()),),
        (("optim.lr", (0.1, -0.1)),),
        (("model.dropout", (0.1, 1.0)),),
        (("task.positive_weight", (1.0, "5")),),
    ],
}


@pytest.mark.parametrize("key", REFUSED)
def test_values_out_of_range_are_refused_by_key_value_and_range(key):
    config = config_of("li_audioset", "fc2").to_dict()
    for value in REFUSED[key]:
        sentence = refusal(with_value(config, tuple(key.split(".")), value))
        assert " must be " in sentence and sentence.endswith(".") and sentence.count("\n") == 0
        assert sentence.startswith(key) or key == "grid"


@pytest.mark.parametrize(
    ("study", "row", "overrides", "sentence"),
    [
        ("li_audioset", "fc2", {"optim__lr": -0.001}, "optim.lr=-0.001 must be above 0 and finite."),
        ("li_audioset", "fc2", {"optim": None}, "optim=None must be a section, with keys of its own."),
        ("li_audioset", "fc2", {"frontend__low": 3.0}, "frontend.low=3.0 must be below frontend.high=2.0."),
        ("rit_nsynth", "optimised", {"model__pool": 0}, "model.pool=0 must be at least 1"),
        ("rit_nsynth", "optimised", {"model__kernel": 0}, "model.kernel=0 must be at least 1"),
        ("rit_nsynth", "optimised", {"model__head": "averge"}, "model.head='averge' must be 'average' or 'flatten'."),
        ("fagan_gtzan", "cnn1d_gap", {"frontend__mels": 0}, "frontend.mels=0 must be at least 1"),
        ("fagan_gtzan", "cnn1d_gap", {"frontend__top_db": -1.0}, "frontend.top_db=-1.0 must be at least 0 and finite"),
        ("fagan_gtzan", "cnn1d_gap", {"frontend__hop_samples": 2000}, "must be at most frontend.n_fft=1024."),
        ("fagan_gtzan", "cnn1d_gap", {"model__stages": (("conv", 0, 3, 1),)}, "model.stages.conv=0 must be at least 1"),
        ("fagan_gtzan", "cnn1d_gap", {"model__stages": (("dropout", 1.0),)}, "model.stages.dropout=1.0 must be at"),
        (
            "fagan_gtzan",
            "cnn1d_gap",
            {"model__stages": ("conv", 8)},
            "model.stages=('conv', 8) must be a list of stages",
        ),
        ("wang_gtzan", "gan_cnn", {"task__piece_frames": 0}, "task.piece_frames=0 must be at least 1"),
        ("wang_gtzan", "gan_cnn", {"task__embedding__n_fft": 1}, "task.embedding.n_fft=1 must be at least 2"),
        ("wang_gtzan", "gan_cnn", {"recipe__clips": 0}, "recipe.clips=0 must be at least 1"),
        ("wang_gtzan", "gan_cnn", {"model__label": "embedding"}, "model.embedding=0 must be at least 1 where"),
        (
            "beyond_gtzan_gan",
            "gan_log_mel",
            {"task__discriminator__lr": -1.0},
            "task.discriminator.lr=-1.0 must be abo",
        ),
        ("ntu_freesound", "self_training_3", {"recipe__upper": 0.5}, "lower=(0.35, 0.65) must be at most recipe.upper"),
        ("ntu_freesound", "self_training_3", {"recipe__lower": (0.5,)}, "must be a list of 2 values, each at least 0"),
        ("ntu_freesound", "spread_2", {"recipe__spreading__gamma": 0.0}, "recipe.spreading.gamma=0.0 must be above 0"),
        ("ntu_freesound", "spread_2", {"recipe__spreading__alpha": 1.0}, "alpha=1.0 must be above 0 and below 1."),
        ("ntu_freesound", "spread_2", {"recipe__groups": (("music", "Cello"),)}, "recipe.groups=(('music', 'Cello'),)"),
        ("ntu_freesound", "ensemble_six", {"recipe__members": ()}, "recipe.members=() must be a list of 1 or more"),
        (
            "ntu_freesound",
            "cnn2d",
            {"data__subset_weights__unverified": -0.5},
            "subset_weights.unverified=-0.5 must be",
        ),
    ],
)
def test_what_is_wrong_is_said(study, row, overrides, sentence):
    config = config_of(study, row).to_dict()
    for key, value in overrides.items():
        config = with_value(config, tuple(key.split("__")), value)
    assert sentence in refusal(config)


def test_seeds_of_all_replicas_are_in_range():
    config = config_of("li_audioset", "fc2", seed=2**32 - 2, replicas=2)
    ranges.check(config)
    sentence = refusal(config.to_dict() | {"replicas": 3})
    assert sentence.startswith("seed=4294967294 must be at most 4,294,967,293, so that replicas=3 seeds")
    ranges.check(config_of("li_fig4", "fc2", seed=2**32 - 1, replicas=12))  # all of one seed


def test_a_share_may_be_0_where_nothing_is_cut_and_a_rate_where_nothing_is_trained():
    config = config_of("li_audioset", "fc2").to_dict()
    config["data"]["protocols"]["paper"]["valid_fraction"] = 0.0  # valid is a split of its own
    ranges.check(ConfigDict(config))
    own = config_of("fagan_gtzan", "cnn1d_gap", data__split_file="folds.csv").to_dict()
    own["data"]["protocols"]["honest"] |= {"valid_fraction": 0.0, "test_fraction": 0.0}
    ranges.check(ConfigDict(own))
    ranges.check(config_of("ntu_freesound", "ensemble_six", optim__lr=0.0, batch_size=0))


def test_a_grid_has_a_key_once():
    pairs = (("optim.lr", (0.1, 0.2)), ("optim.lr", (0.3, 0.4)))
    assert refusal(config_of("li_audioset", "fc2", grid=pairs).to_dict()).startswith("grid has optim.lr twice")


def test_keys_that_the_table_does_not_know_are_left_alone():
    config = config_of("li_audioset", "fc2").to_dict()
    config |= {"ours": -1, "section": {"of_ours": math.nan, "low": 3, "high": 2}, "none": None}
    config["augment"]["features"] = ({"name": "ours", "amount": -1.0},)
    ranges.check(ConfigDict(config))


def test_rows_and_tables_are_checked_before_anything_starts(tmp_path):
    with pytest.raises(ConfigError, match="model.dropout=50.0 must be at least 0 and below 1."):
        command_line.check(config_of("li_audioset", "fc2", model__dropout=50.0), "run")
    chosen = {"rows": ["lstm"], "protocols": ["honest"]}
    with pytest.raises(ConfigError, match="model.lstm_dropout=1.0 must be at least 0 and below 1."):
        study.plan(li_audioset, li_audioset.get_config(), {"model.lstm_dropout": 1.0}, chosen, 1, tmp_path)
    done = launch(
        "--config=configs/rit_nsynth.py:optimised",
        "--config.augment.features={'name':'mixup','alpha':1.0}",
        f"--workdir={tmp_path / 'run'}",
        f"--data_dir={tmp_path / 'data'}",
    )
    [line] = done.stderr.strip().splitlines()
    assert done.returncode == 1 and line.startswith("audiojax: augment.features=('name', 'alpha') must be a list of")
    assert not any(tmp_path.iterdir())


def test_ranges_are_checked_without_jax():
    code = "import sys, audiojax.ranges; print({'jax', 'tensorflow'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "set()\n"

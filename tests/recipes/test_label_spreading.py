"""Labels spread over latents, from a made-up encoder's run, on the stand-in."""

import json
import subprocess
import sys

import numpy as np
import pytest

from audiojax import experiment
from audiojax.data import labels, prepared
from audiojax.errors import ConfigError, RunError
from audiojax.recipes import label_spreading
from configs import ntu_freesound
from tests.conftest import ROOT, config_of

SETTINGS = {"kernel": "rbf", "gamma": 20.0, "alpha": 0.2, "max_iter": 1000, "tol": 1e-3}


@pytest.fixture(scope="module")
def table_dir(data_dir, tmp_path_factory):
    """A table's folder with an encoder's run: its latents are near when clips sound alike."""
    root = tmp_path_factory.mktemp("table")
    data = prepared.find("fsdkaggle2018", "stand_in", data_dir)
    sounds = [clip.split("-", 2)[2] for clip in data.index("train").id]
    rng = np.random.default_rng(0)
    centre = dict(zip(data.classes, rng.normal(size=(41, 16))))
    latent = np.stack([7 * (centre[sound] + 0.25 * rng.normal(size=16)) for sound in sounds]).astype(np.float32)
    folder = root / "autoencoder" / "honest" / "split_0"
    (folder / "predictions").mkdir(parents=True)
    np.savez(folder / "predictions" / "latents.npz", id=data.index("train").id, latent=latent)
    (folder / "result.json").write_text("{}")
    (folder / "config.json").write_text('{"protocol": "honest", "data": {"split_seed": 0}}')
    truth = [{"clip": clip, "label": sound} for clip, sound in zip(data.index("train").id, sounds)]
    labels.write(root / "truth.csv", truth)
    return root


@pytest.fixture(autouse=True)
def quick_embedding(request, monkeypatch):
    """t-SNE takes most of a run's time; tests that ask for the fixture `tsne` have it."""
    if "tsne" not in request.fixturenames:
        monkeypatch.setattr(label_spreading, "embed", lambda latent_ND, seed: latent_ND[:, :2])


@pytest.fixture
def tsne():
    """Embeds latents as a run does."""


def run(table_dir, data_dir, row="spread_2", name="", **overrides):
    config = config_of("ntu_freesound", row, data__variant="stand_in", **overrides)
    folder = table_dir / (name or row) / config.protocol / "split_0"
    return label_spreading.run(config, folder, None, data_dir), folder


def test_promotion_raises_the_share_of_right_labels_and_leaves_them_to_others(table_dir, data_dir):
    result, folder = run(table_dir, data_dir, recipe__truth_file=str(table_dir / "truth.csv"))
    right = result["right"]
    assert right["unverified"] < 0.85 and right["promoted"] > 0.98
    assert right["verified and promoted"] > right["all"] + 0.1
    table = labels.read(folder / "labels.csv", ntu_freesound.MUSIC + ntu_freesound.CREATURE + ntu_freesound.NON_HUMAN)
    subsets = [label.subset for label in table.values()]
    assert subsets.count("verified") == 164 and subsets.count("promoted") > 150
    trained = config_of("ntu_freesound", "vgg_small_spread", data__variant="stand_in")
    beside = table_dir / "vgg_small_spread" / "honest" / "split_0"
    data = experiment.open_run(trained, beside, None, data_dir)
    assert set(data.parts["train"].id) == set(table) and set(data.parts["valid"].subset) == {"verified"}
    by_path = config_of("ntu_freesound", "cnn2d", data__variant="stand_in", data__label_file=str(folder / "labels.csv"))
    parts = experiment.open_run(by_path, table_dir, None, data_dir).parts
    np.testing.assert_array_equal(parts["train"].label, data.parts["train"].label)
    before = (folder / "result.json").stat().st_mtime_ns
    run(table_dir, data_dir, recipe__truth_file=str(table_dir / "truth.csv"))
    assert (folder / "result.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_counts_add_up_as_in_the_study_s_tables(table_dir, data_dir, tsne):
    result, folder = run(table_dir, data_dir, "spread_5")
    lines = result["tables"]["Promotion"]["lines"]
    assert [line[0] for line in lines] == ["musical", "strings", "percussion", "creature", "non-human", "all"]
    counts = np.array([[int(cell.split()[0].replace(",", "")) for cell in line[1:]] for line in lines])
    np.testing.assert_array_equal(counts[:-1].sum(0), counts[-1])
    assert counts[-1, 0] == 451 and counts[-1, 1] == 164
    assert lines[-1][2] == f"164 ({164 / 451:.2%})"
    with np.load(folder / "plots" / "embedding.npz") as arrays:
        assert arrays["xy"].shape == (451, 2) and np.ptp(arrays["xy"], axis=0).min() > 1
        assert (arrays["subset"] == "promoted").sum() == counts[-1, 2] - 164


def test_one_group_of_two_may_be_promoted(table_dir, data_dir):
    _, folder = run(table_dir, data_dir, "spread_2_music")
    classes = ntu_freesound.MUSIC + ntu_freesound.CREATURE + ntu_freesound.NON_HUMAN
    promoted = {
        label.label for label in labels.read(folder / "labels.csv", classes).values() if label.subset == "promoted"
    }
    assert promoted and promoted <= set(ntu_freesound.MUSIC)


def test_hidden_labels_are_judged_by_the_data_set_s(table_dir, data_dir):
    hide = {"share": 0.5, "wrong": 0.4}
    result, _ = run(table_dir, data_dir, "spread_1", "hidden", data__hide=hide)
    number = {line[0]: int(line[1]) for line in result["tables"]["Labels that are right"]["lines"]}
    # Of the 164 verified clips half are hidden; of the others, unverified before, the truth is not known.
    assert (number["all"], number["unverified"]) == (164, 82)
    assert (1 - result["right"]["unverified"]) * 82 == pytest.approx(round(0.4 * 0.5 * 164))
    assert result["right"]["verified and promoted"] > result["right"]["all"]


def test_a_clip_that_nothing_reaches_is_not_promoted():
    near, far = np.zeros((3, 2)), np.full((1, 2), 50.0)
    label = np.array([0, 0, 0, 0])
    known = np.array([True, True, False, False])
    np.testing.assert_array_equal(
        label_spreading.spread(np.concatenate([near, far]), label, known, SETTINGS), [0, 0, 0, -1]
    )
    np.testing.assert_array_equal(label_spreading.spread(near, label[:3], np.zeros(3, bool), SETTINGS), [-1, -1, -1])


def test_paper_spreads_labels_of_validation_too_but_promotes_none_of_its_clips(table_dir, data_dir):
    folder = table_dir / "autoencoder" / "paper" / "split_0"
    (folder / "predictions").mkdir(parents=True)
    own = table_dir / "autoencoder" / "honest" / "split_0"
    for name in ("result.json", "predictions/latents.npz"):
        (folder / name).write_bytes((own / name).read_bytes())
    (folder / "config.json").write_text('{"protocol": "paper", "data": {"split_seed": 0}}')
    result, folder = run(table_dir, data_dir, "spread_1", protocol="paper")
    assert result["tables"]["Promotion"]["lines"][-1][1] == "492"
    config = config_of("ntu_freesound", "cnn2d", protocol="paper", data__variant="stand_in")
    valid = experiment.open_run(config, table_dir, None, data_dir).parts["valid"]
    assert not set(labels.read(folder / "labels.csv", result["classes"])) & set(valid.id)


@pytest.mark.parametrize(
    ("overrides", "kind", "sentence"),
    [
        ({"recipe__encoder": "vae"}, RunError, "spread_2 needs vae, which has no finished run"),
        (
            {"recipe__groups": (("music", ("Bark",)),)},
            ConfigError,
            "recipe.groups must have each class once; see Acoustic",
        ),
        (
            {"recipe__labelled": "verfied"},
            ConfigError,
            "recipe.labelled='verfied' is no subset of train: unverified, ver",
        ),
        (
            {"recipe__spreading__alpha": 1.5},
            ConfigError,
            "recipe.spreading=.*'alpha' parameter of LabelSpreading must be",
        ),
        ({"recipe__promote": ("noise",)}, ConfigError, "recipe.promote names 'noise'; groups: music, non-music"),
        (
            {"data__segment__seconds": 2.0},
            ConfigError,
            "label_spreading needs whole clips .data.segment.seconds=0. of a single label each",
        ),
        ({"data__split_seed": 1}, RunError, "spread_2 needs autoencoder, which has no finished run"),
    ],
)
def test_what_cannot_be_spread_is_said(table_dir, data_dir, overrides, kind, sentence):
    with pytest.raises(kind, match=sentence):
        run(table_dir, data_dir, name="wrong " + next(iter(overrides)), **overrides)


def test_labels_of_another_protocol_or_cut_are_refused(table_dir, data_dir):
    folder = str(table_dir / "autoencoder" / "honest" / "split_0")
    for other in ({"protocol": "paper"}, {"data__split_seed": 3}):
        config = config_of("ntu_freesound", "cnn2d", data__variant="stand_in", data__label_file=folder, **other)
        with pytest.raises(RunError, match="cnn2d cannot use .*, which has other clips in train, valid and test: "):
            experiment.open_run(config, table_dir, None, data_dir)
    config = config_of("ntu_freesound", "cnn2d", data__variant="stand_in", data__label_file="labls.csv")
    with pytest.raises(ConfigError, match="data.label_file=labls.csv: there is no such file"):
        experiment.open_run(config, table_dir, None, data_dir)


def test_an_encoder_without_latents_of_these_clips_is_said(table_dir, data_dir):
    folder = table_dir / "other"
    folder.mkdir()
    (folder / "result.json").write_text("{}")
    (folder / "config.json").write_text('{"protocol": "honest", "data": {"split_seed": 0}}')
    with pytest.raises(RunError, match="latents.npz cannot be read .*; recipe.encoder must be an autoencoder's run"):
        run(table_dir, data_dir, name="without", recipe__encoder=str(folder))
    (folder / "predictions").mkdir()
    np.savez(folder / "predictions" / "latents.npz", id=np.array(["x"]), latent=np.zeros((1, 2)))
    with pytest.raises(
        RunError, match="latents.npz has no latent of .*451 such clips.; take the same protocol and cut"
    ):
        run(table_dir, data_dir, name="short", recipe__encoder=str(folder))


def test_result_says_what_it_was_made_of(table_dir, data_dir):
    _, folder = run(table_dir, data_dir, "spread_3")
    result = json.loads((folder / "result.json").read_text())
    assert result["encoder"].endswith("autoencoder/honest/split_0") and result["metrics"]["test"] == {}


@pytest.mark.parametrize(
    "latent_ND", [np.ones((12, 8)), np.full((12, 1), 0.1), np.zeros((4, 8)), np.repeat(np.eye(2), 6, 0)]
)
def test_latents_without_or_with_little_spread_are_embedded(latent_ND):
    """Those of silent clips are all the same. In a process of its own, for scikit-learn may end it."""
    code = f"""import numpy as np
from audiojax.recipes.label_spreading import embed
xy = embed(np.array({latent_ND.tolist()}), 0)
assert xy.shape == ({len(latent_ND)}, 2) and np.isfinite(xy).all(), xy
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_latents_of_one_dimension_are_embedded(tsne):
    assert np.isfinite(label_spreading.embed(np.arange(12.0)[:, None], 0)).all()

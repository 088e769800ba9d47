"""GANs as runs: samples, judges that bad generators fail, resume, what joins an LSTM's training, wav files."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.io.wavfile

from audiojax import experiment, trained
from audiojax.cli import generate
from audiojax.data.windows import select
from audiojax.errors import ConfigError, RunError
from audiojax.recipes import augmentation, gan, single
from audiojax.tasks.gan import Task
from tests.conftest import ROOT, config_of, launch

pytestmark = pytest.mark.slow

SHORT = {"seconds": 1.0, "hop_s": 15.0, "shortest_s": 1.0, "pad": "zeros"}
STAGES = dict(
    model__generator_stages=(("steps", 32), ("conv", 32, 3, 2), ("conv", 3, 2)),
    model__discriminator_stages=(("conv", 32, 5, 2), ("average",)),
    model__latent=8,
)
SMALL = dict(data__variant="stand_in", data__segment=SHORT, epochs=0.0, batch_size=16)
FEW = dict(steps=40, eval_every=20.0, recipe__clips=6, optim__lr=1e-3)
FLAGS = [
    *("--config=configs/beyond_gtzan_gan.py:gan_log_mel", "--config.data.variant=stand_in", "--config.epochs=0"),
    *(f"--config.data.segment.{name}={value}" for name, value in SHORT.items()),
    *(f"--config.{name.replace('__', '.')}={value}".replace(" ", "") for name, value in (STAGES | FEW).items()),
]


@pytest.fixture(scope="module")
def table(data_dir, tmp_path_factory):
    """A folder with a finished judge and a finished GAN."""
    folder = tmp_path_factory.mktemp("table")
    judge = config_of("beyond_gtzan_gan", "judge", **SMALL, steps=60, eval_every=60.0, optim__lr=1e-2)
    single.run(judge, folder / "judge" / "honest" / "split_0", None, data_dir)
    config = config_of("beyond_gtzan_gan", "gan_log_mel", **SMALL, **STAGES, **FEW)
    gan.run(config, folder / "gan_log_mel" / "honest" / "split_0", None, data_dir)
    return folder


def test_a_run_leaves_samples_and_judgements(table):
    folder = table / "gan_log_mel" / "honest" / "split_0"
    result = json.loads((folder / "result.json").read_text())
    assert {"loss", "fooled", "frechet", "recognised", "taught"} == result["metrics"]["test"].keys()
    assert {"loss", "fooled", "frechet"} == result["metrics"]["train"].keys()
    [(title, judged)] = result["tables"].items()
    assert title == "60 generated clips, judged" and judged["header"] == ["", "generated", "real"]
    for step in (0, 20, 40):
        with np.load(folder / "samples" / f"step_{step}.npz") as arrays:
            assert arrays["audio"].shape == (10, 22_050) and arrays["audio"].dtype == np.int16
    valid = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    distance = {line["step"]: line["valid/frechet"][0] for line in valid if "valid/frechet" in line}
    assert distance.keys() == {0, 20, 40}
    assert min(distance[20], distance[40]) < distance[0] / 2
    assert result["generates"] == {"samples": 22_050, "sample_rate_hz": 22_050}


def test_judges_believe_real_clips_and_no_broken_generator(table, data_dir, tmp_path):
    """Real clips in place of generated ones, then silence, then one clip whatever the label."""
    judging = trained.load(table / "judge" / "honest" / "split_0")
    config = config_of("beyond_gtzan_gan", "gan_log_mel", **SMALL, **STAGES, steps=1)
    data = experiment.open_run(config, tmp_path, None, data_dir)
    embed = Task(config, np.full(10, 0.1), 1).embed
    valid = data.parts["valid"]
    real = gan.read(data.prepared, valid)
    broken = {"real": real, "zeros": np.zeros_like(real), "one mode": np.repeat(real[:1], len(real), 0)}
    found = {
        name: gan.judge(audio, valid.label, data, embed, judging, tmp_path / name) for name, audio in broken.items()
    }
    numbers = {
        name: {line[0]: line[1] for line in next(iter(of["tables"].values()))["lines"]} for name, of in found.items()
    }
    recognised = {name: of["test"]["recognised"][0] for name, of in found.items()}
    taught = {name: of["test"]["taught"][0] for name, of in found.items()}
    assert recognised["real"] > 0.6 and taught["real"] > 0.35
    for name in ("zeros", "one mode"):
        assert recognised[name] == pytest.approx(0.1, abs=0.02) and taught[name] < 0.3
        log_mel, by_judge = (f"Fréchet distance to test, {of}" for of in ("log-mel", "classifier"))
        assert float(numbers[name][log_mel]) > 2 * float(numbers["real"][log_mel])
        assert float(numbers[name][by_judge]) > 2 * float(numbers["real"][by_judge])
        assert float(numbers[name]["spread within a class"]) == 0
    assert float(numbers["real"]["spread within a class"]) > 0.7


def test_copies_of_training_clips_are_seen(table, data_dir, tmp_path):
    config = config_of("beyond_gtzan_gan", "gan_log_mel", **SMALL, **STAGES, steps=1)
    train = experiment.open_run(config, tmp_path, None, data_dir).parts["train"]
    flat = np.random.default_rng(0).normal(size=(len(train.id), 5))
    row, distance = gan.nearest(flat[7:9] + 1e-9, flat)
    assert row.tolist() == [7, 8] and distance.max() < 1e-3
    assert gan.nearest(flat[:3] + 9, flat)[1].min() > 5


def test_a_killed_gan_ends_as_the_uninterrupted_one(data_dir, table):
    whole, killed = (table / name / "honest" / "split_0" for name in ("gan_log_mel", "killed"))
    flags = [*FLAGS, f"--data_dir={data_dir}", f"--workdir={killed}"]
    process = subprocess.Popen(
        [sys.executable, "launch.py", *flags], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    saved = killed / "checkpoints" / "20" / "_CHECKPOINT_METADATA"
    while process.poll() is None and not saved.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "result.json").exists()
    again = launch(*flags)
    assert again.returncode == 0 and "resumed at step 20" in again.stdout + again.stderr
    one, other = (json.loads((folder / "result.json").read_text()) for folder in (whole, killed))
    assert one["metrics"] == other["metrics"] and one["tables"] == other["tables"]
    for step in (0, 20, 40):
        samples = f"samples/step_{step}.npz"
        with np.load(whole / samples) as a, np.load(killed / samples) as b:
            np.testing.assert_array_equal(a["audio"], b["audio"])


def test_clips_join_the_training_of_an_lstm_and_nothing_else(table, data_dir, tmp_path):
    lstm = dict(model__stages=(("conv", 8, 3, 4), ("recurrent", 4), ("last",)), steps=4, eval_every=4.0)
    config = config_of("beyond_gtzan_gan", "lstm_log_mel_gan", **SMALL, **lstm, replicas=2)
    folder = table / "lstm_log_mel_gan" / "honest" / "split_0"
    result = augmentation.run(config, folder, None, data_dir)
    data = experiment.open_run(config, folder, None, data_dir)
    real = data.parts["train"]
    assert result["examples"]["train"] == 2 * len(real.id) and result["replicas"] == 2
    [(title, told)] = result["tables"].items()
    windows = {line[0]: int(line[1].replace(",", "")) for line in told["lines"]}
    assert windows == {"real": len(real.id), "duplicated": 2 * len(real.id), "generated": 2 * len(real.id)}
    assert all(len(of[name]) == 2 for of in result["audit"].values() for name in ("train", "valid", "test"))
    for split in ("valid", "test"):
        with np.load(folder / "predictions" / f"{split}.npz") as arrays:
            assert not any(clip.startswith("generated") for clip in arrays["id"])
    whole, train = augmentation.enlarge(config, data, trained.load(table / "gan_log_mel" / "honest" / "split_0"))
    generated = select(train["generated"], train["generated"].subset == "generated")
    np.testing.assert_array_equal(np.bincount(generated.label), np.bincount(real.label))
    first = gan.read(whole, select(generated, slice(0, 1)))[0]
    assert first.any()


def test_wav_files_are_functions_of_label_and_number(table, tmp_path):
    run = table / "gan_log_mel" / "honest" / "split_0"
    four = generate.write(run, "disco", 0, 4, tmp_path / "four")
    assert [path.name for path in four] == [f"disco.{number:05d}.wav" for number in range(4)]
    rate_hz, audio = scipy.io.wavfile.read(four[2])
    assert rate_hz == 22_050 and audio.shape == (22_050,) and audio.dtype == np.int16 and audio.std() > 0
    [again] = generate.write(run, "disco", 2, 1, tmp_path / "one")
    assert np.abs(scipy.io.wavfile.read(again)[1].astype(int) - audio).max() <= 1
    assert len(generate.write(run, None, 0, 1, tmp_path / "all")) == 10


def test_what_cannot_generate_says_so(table, tmp_path):
    run = table / "gan_log_mel" / "honest" / "split_0"
    with pytest.raises(ConfigError, match="--label=polka: the run has no such class; it has blues"):
        generate.write(run, "polka", 0, 1, tmp_path)
    with pytest.raises(ConfigError, match="--count=0 at least 1"):
        generate.write(run, None, 0, 0, tmp_path)
    with pytest.raises(RunError, match="only GANs generate"):
        generate.write(table / "judge" / "honest" / "split_0", None, 0, 1, tmp_path)
    with pytest.raises(RunError, match="holds no finished run"):
        generate.write(tmp_path, None, 0, 1, tmp_path)


def test_clips_of_a_classifier_cannot_join(table, data_dir):
    config = config_of("beyond_gtzan_gan", "lstm_log_mel_gan", **SMALL, recipe__generator="judge")
    with pytest.raises(ConfigError, match="recipe.generator='judge' is no GAN; name the run of one"):
        augmentation.run(config, table / "other" / "honest" / "split_0", None, data_dir)


def test_a_discriminator_that_has_won_is_named():
    said = gan.won({"fooled": [0.0], "loss": [7.25]})
    assert "has won" in said and "7.25" in said and "not a good fit" in said


def test_a_network_that_cannot_fit_is_refused_before_it_is_allocated(data_dir, tmp_path):
    huge = dict(model__generator_stages=(("dense", 200_000),), model__discriminator_stages=(("dense", 8),))
    config = config_of("wang_gtzan", "gan_fcn", data__variant="stand_in", epochs=0.0, steps=1, **huge)
    with pytest.raises(ConfigError, match=r"parameters need .* GB, and a device has .* GB: take shorter clips"):
        gan.run(config, tmp_path, None, data_dir)

"""Reading of runs; means, standard deviations, intervals and gaps of known runs."""

import json
import math
import shutil
import statistics

import pytest

from audiojax.report import scores, table
from audiojax.report.scores import Measure
from tests.report.conftest import ROWS, put, result_of

ACCURACY, CLIPS = Measure("test", "accuracy"), Measure("test", "accuracy_group")


def test_finished_runs_are_found_in_order_and_others_are_not(workdir):
    runs = scores.read_runs(workdir, ROWS)[0]
    assert [run[1:4] for run in runs] == [("a_1", "paper", 0), ("a_1", "honest", 0), ("a_1", "honest", 1)]
    assert runs[1].result["metrics"]["test"]["accuracy"] == [0.5, 0.6]


LISTS = ["metrics", "examples", "time_s", "published", "classes", "best_step", "notes", "skipped"]
SHAPES = [json.dumps(result_of({"accuracy": [0.5]}) | {key: 5}) for key in LISTS]
SHAPES += [json.dumps(result_of({"accuracy": [0.5]}) | {"metrics": {"test": wrong}}) for wrong in (5, ["accuracy"])]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"metrics": {"test": {}}', b"\xff\xfe", *SHAPES])
def test_a_broken_result_leaves_the_other_runs_and_is_one_sentence(workdir, text):
    path = workdir / "a_1" / "paper" / "split_0" / "result.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    runs, [sentence] = scores.read_runs(workdir, ROWS)
    assert [run[1:4] for run in runs] == [("a_1", "honest", 0), ("a_1", "honest", 1)]
    assert sentence.startswith(f"{path} cannot be read (") and "\n" not in sentence
    assert sentence.endswith("; remove that file: the same command evaluates the newest checkpoint again.")


@pytest.mark.parametrize("text", ["", "[]", '{"data": []}', '{"data": {"name": "tones", "split_seed": "x"}}'])
def test_a_broken_config_is_named_itself(workdir, text):
    path = workdir / "a_1" / "honest" / "split_1" / "config.json"
    path.write_text(text)
    runs, [sentence] = scores.read_runs(workdir, ROWS)
    assert len(runs) == 2 and sentence.startswith(f"{path} cannot be read (")
    assert "remove that file and result.json beside it" in sentence
    path.unlink()
    assert str(path) in scores.read_runs(workdir, ROWS)[1][0]


def test_numbers_over_seeds_and_splits(entries):
    assert [entry.row for entry in entries] == list(ROWS)
    honest, paper = entries[0].outcomes["honest"], entries[0].outcomes["paper"]
    score = honest.scores[ACCURACY]
    assert score.mean == pytest.approx(0.55)
    assert score.std == pytest.approx(statistics.stdev([0.5, 0.6, 0.7, 0.4]))
    assert score.interval == pytest.approx((0.45, 0.68))
    assert (score.values, honest.seeds, honest.splits) == (4, 2, 2)
    assert (honest.train_s, honest.parameters, honest.test_examples, honest.absent) == (20.0, 1234, 6, 94)
    assert paper.scores[ACCURACY] == (0.8, None, (0.7, 0.9), 1)
    assert entries[0].gaps[ACCURACY] == pytest.approx(0.25)


def test_measures_are_the_published_ones_and_their_clips(entries):
    assert list(entries[0].published) == [ACCURACY, CLIPS, Measure("test", "macro_f1")]
    assert entries[0].published[ACCURACY] == 0.9
    assert entries[0].published[CLIPS] is None
    assert CLIPS not in entries[0].outcomes["paper"].scores
    assert entries[0].gaps[CLIPS] is None


def test_what_is_not_finite_once_has_no_mean(entries):
    assert math.isnan(entries[0].outcomes["honest"].scores[Measure("test", "macro_f1")].mean)


def test_a_row_without_a_run_stays_in_the_table(entries):
    assert entries[2].outcomes == {}
    assert entries[2].published[ACCURACY] == 0.5


def test_without_published_numbers_the_usual_metric_is_shown(tmp_path):
    put(tmp_path, "single", "honest", 0, result_of({"loss": [1.0], "accuracy": [0.5], "mAP": [0.3], "mAUC": [0.2]}))
    put(tmp_path, "tags", "honest", 0, result_of({"loss": [1.0], "mAP": [0.3], "mAUC": [0.2]}))
    runs, _ = scores.read_runs(tmp_path, ("single", "tags"))
    assert scores.measures({}, runs[:1]) == [ACCURACY]
    assert scores.measures({}, runs[1:]) == [Measure("test", "mAUC"), Measure("test", "mAP")]


def test_where_no_test_score_was_published_those_of_train_and_validation_are_shown(tmp_path):
    put(tmp_path, "row", "honest", 0, result_of({"loss": [1.0], "accuracy": [0.5]}))
    put(tmp_path, "gan", "honest", 0, result_of({"loss": [2.0], "frechet": [7.0], "taught": [0.3]}))
    rows = {"row": {"published": {"train": {"accuracy": 0.9}, "valid": {"accuracy": 0.6}}}, "gan": {"published": {}}}
    entries = scores.summarise(rows, scores.read_runs(tmp_path, rows)[0])
    valid, taught = Measure("valid", "accuracy"), Measure("test", "taught")
    wanted = [Measure("train", "accuracy"), ACCURACY, valid, Measure("test", "frechet"), taught]
    assert list(entries[0].published) == wanted and entries[0].published[valid] == 0.6
    assert entries[1].outcomes["honest"].scores[taught].mean == 0.3
    header, lines = table.cells(entries)
    assert header[:4] == ["row", "metric", "published", "honest"]
    shown = [line[:4] for line in lines]
    assert ["row", "accuracy (valid)", "0.600", "0.500"] in shown and ["gan", "taught", "–", "0.300"] in shown
    assert not any(line[0] == "gan" and "accuracy" in line[1] for line in lines)


def test_a_published_subset_stands_beside_the_whole_split(tmp_path):
    put(tmp_path, "row", "honest", 0, result_of({"accuracy": [0.5]}))
    rows = {"row": {"published": {"test_public": {"accuracy": 0.6}}}}
    (entry,) = scores.summarise(rows, scores.read_runs(tmp_path, rows)[0])
    assert entry.published == {Measure("test_public", "accuracy"): 0.6, ACCURACY: None}
    assert list(entry.outcomes["honest"].scores) == [ACCURACY]


def test_clips_that_are_whole_examples_have_the_metric_of_clips_too(tmp_path):
    rows = {name: {"published": {"test": {"map_at_3_group": 0.6}}} for name in ("whole", "windows", "neither")}
    put(tmp_path, "whole", "honest", 0, result_of({"loss": [1.0], "map_at_3": [0.5]}, {"map_at_3": [[0.4, 0.6]]}))
    windows = {"loss": [1.0], "loss_group": [1.0], "map_at_3": [0.1], "map_at_3_group": [0.7]}
    put(tmp_path, "windows", "honest", 0, result_of(windows))
    put(tmp_path, "neither", "honest", 0, result_of({"loss": [1.0], "loss_group": [1.0], "map_at_3": [0.1]}))
    runs = scores.read_runs(tmp_path, rows)[0]
    measure = Measure("test", "map_at_3_group")
    whole, other, neither = (entry.outcomes["honest"].scores for entry in scores.summarise(rows, runs))
    assert (whole[measure].mean, whole[measure].interval, other[measure].mean) == (0.5, (0.4, 0.6), 0.7)
    assert measure not in neither


def test_names_that_no_file_can_hold_are_escaped():
    tree = {"caf\udce9": ["a\x00b", {"c": "d\ne"}, 5, None], "鳥 é": "plain"}
    assert scores.printable(tree) == {"caf\\udce9": ["a\\x00b", {"c": "d\\ne"}, 5, None], "鳥 é": "plain"}
    json.dumps(scores.printable(tree), ensure_ascii=False).encode()


def test_the_gap_is_over_the_splits_that_both_protocols_have(tmp_path):
    for split, (paper, honest) in enumerate([(0.9, 0.5), (None, 0.1), (0.7, None)]):
        for protocol, value in (("paper", paper), ("honest", honest)):
            if value is not None:
                put(tmp_path, "a_1", protocol, split, result_of({"accuracy": [value]}))
    entry, *_ = scores.summarise(ROWS, scores.read_runs(tmp_path, ROWS)[0])
    assert entry.gaps[ACCURACY] == pytest.approx(0.4)


@pytest.mark.parametrize(
    "place", ["a_1/honest/split_0.bak", "a_1/honest/split_7", "a_1/paper/split_0", "late/honest/split_0"]
)
def test_a_run_in_another_ones_place_is_refused(tmp_path, place):
    """A copy would count twice."""
    put(tmp_path, "a_1", "honest", 0, result_of({"accuracy": [0.5]}))
    shutil.copytree(tmp_path / "a_1/honest/split_0", tmp_path / place)
    runs, damaged = scores.read_runs(tmp_path, ROWS)
    assert [run.folder for run in runs] == [tmp_path / "a_1/honest/split_0"]
    assert f"{place} holds the run of a_1/honest/split_0, copied or moved; take it out" in damaged[0]

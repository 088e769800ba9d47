"""Scores over the settings of grids."""

import numpy as np
import pytest

from audiojax.report import grids, page, plots, scores
from audiojax.report.scores import Measure
from tests.report.conftest import CLASSES, IDS, config_of, result_of, write_run

ACCURACY = Measure("test", "accuracy")
SETTINGS = {"optim.lr": [1e-4, 1e-4, 3e-3, 3e-3], "model.dropout": [0.0, 0.3, 0.0, 0.3]}


def grid_result(test: list[float], valid: list[float], **other) -> dict:
    result = result_of({"accuracy": test, "loss": [1.0] * 4}, settings=SETTINGS, **other)
    result["metrics"]["valid"] = {"accuracy": valid}
    return result


def summarise(workdir, rows):
    """The grids of these rows, `paper` before `honest`; None for a row without a grid."""
    groups = scores.grouped(scores.read_runs(workdir, rows)[0])
    return [grids.summarise(group, ACCURACY) for group in groups.values()]


@pytest.fixture
def workdir(tmp_path):
    rng, label = np.random.default_rng(0), np.array([0, 1, 2, 0, 1, 2])
    drawn = {"label": label, "score_RNK": rng.dirichlet(np.ones(len(CLASSES)), (4, 6)), "id_N": IDS}
    results = {
        "paper": grid_result([0.5, 0.9, 0.6, 0.8], [0.5, 0.9, 0.6, 0.8], published={"test": {"accuracy": 0.85}}),
        "honest": grid_result([0.4, 0.7, 0.5, 0.6], [0.1, 0.2, 0.4, 0.3]),
    }
    for protocol, result in results.items():
        write_run(tmp_path / "wide" / protocol / "split_0", config_of(protocol), result, **drawn)
    write_run(tmp_path / "plain" / "paper" / "split_0", config_of("paper"), result_of({"accuracy": [0.3]}), label,
              drawn["score_RNK"][:1], IDS)  # fmt: skip
    return tmp_path


def test_range_and_choice_of_every_grid(workdir):
    paper, honest = summarise(workdir, {"wide"})
    assert summarise(workdir, {"plain"}) == [None]
    assert (paper.row, paper.protocol, paper.published, paper.chosen) == ("wide", "paper", 0.85, 1)
    assert (honest.protocol, honest.published, honest.test[honest.chosen]) == ("honest", None, 0.5)
    _, lines = grids.cells([paper, honest])
    assert lines[1] == ["wide", "honest", "4", "–", "0.7000", "0.5500", "0.4000", "0.5000", "lr 0.003, dropout 0"]


def test_a_loss_is_chosen_where_it_is_least(tmp_path):
    result = result_of({"accuracy": [0.4, 0.7], "loss": [0.2, 0.9]}, settings={"optim.lr": [0.1, 0.2]})
    write_run(tmp_path / "wide" / "paper" / "split_0", config_of("paper", select="loss"), result)
    (found,) = summarise(tmp_path, {"wide"})
    assert found.chosen == 0


def test_the_report_has_them(workdir):
    rows = {name: {"published": {"test": {"accuracy": 0.85}}} for name in ("wide", "plain")}
    page.write("study", rows, {}, workdir, workdir)
    lines = (workdir / "grid.md").read_text().splitlines()
    assert lines[2] == "| wide | paper | 4 | 0.8500 | 0.9000 | 0.7000 | 0.5000 | 0.9000 | lr 0.0001, dropout 0.3 |"
    assert '<h2 id="grids">Grids</h2>' in (workdir / "report.html").read_text()
    note = (workdir / "table.md").read_text().splitlines()[-1]
    assert "Seeds: 1;" in note and "over seeds and splits (of a grid, its settings)" in note


def test_the_picture_shows_range_and_choice(workdir):
    found = summarise(workdir, {"wide"})
    (axes,) = plots.grids(found).axes
    bars = [(round(bar.get_y(), 6), round(bar.get_y() + bar.get_height(), 6)) for bar in axes.patches]
    assert bars == [(0.5, 0.9), (0.4, 0.7)]
    assert [line.get_ydata().tolist() for line in axes.lines] == [[0.9], [0.5], [0.85]]


def test_studies_without_grids_have_none(tmp_path):
    page.write("study", {"row": {"published": {}}}, {}, tmp_path, tmp_path)
    assert not (tmp_path / "grid.md").exists()


def test_runs_of_different_grids_leave_the_other_grids(workdir):
    folder = workdir / "wide" / "paper" / "split_1"
    result = result_of({"accuracy": [0.4, 0.7]}, settings={"optim.lr": [0.1, 0.2]})
    write_run(folder, config_of("paper", split_seed=1), result)
    rows = {name: {"published": {"test": {"accuracy": 0.85}}} for name in ("wide", "plain")}
    sentences = page.write("study", rows, {}, workdir, workdir)
    assert any("the runs of wide, paper have different grids" in sentence for sentence in sentences)
    assert "| wide | honest |" in (workdir / "grid.md").read_text()

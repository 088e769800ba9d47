"""The table in three formats, and its footnote."""

import csv
import io

from audiojax.report import scores, table
from audiojax.report.scores import Measure
from tests.report.conftest import ROWS, config_of, put, result_of

ACCURACY = Measure("test", "accuracy")


def test_markdown(workdir, entries):
    text = table.markdown(entries, table.footnote(entries, scores.read_runs(workdir, ROWS)[0], {}))
    lines = text.splitlines()
    assert lines[0] == "| row | metric | published | paper | honest | gap | honest, clips | parameters | s |"
    cells = "0.900", "0.800 (0.70–0.90)", "0.550 ± 0.129 (0.45–0.68)", "+0.250", "0.750 ± 0.058", "1,234", "15"
    assert lines[2] == f"| a_1 | accuracy | {' | '.join(cells)} |"
    assert lines[3].startswith("| a_1 | macro_f1 | – | 0.750 | – | +0.300 |")
    # No line for a metric that a row neither has nor was published with.
    assert lines[5] == "| late | accuracy | 0.500 | – | – | – | – | – | – |"
    assert "94 examples of the release are absent" in lines[-1]
    assert "6 (paper), 6 (honest)" in lines[-1]
    assert "Seeds: 1–2; splits: 1–2." in lines[-1]


def test_synthesised_data_is_called_so(tmp_path):
    put(tmp_path, "a_1", "paper", 0, result_of({"accuracy": [0.8]}, variant="stand_in"))
    runs = scores.read_runs(tmp_path, ROWS)[0]
    assert "synthesised" in table.footnote(scores.summarise(ROWS, runs), runs, {})


def test_csv_has_every_number_in_full(entries):
    lines = list(csv.DictReader(io.StringIO(table.csv(entries))))
    assert len(lines) == 3 * (2 + 1 + 1)
    (line,) = (x for x in lines if (x["row"], x["protocol"], x["metric"]) == ("a_1", "honest", "accuracy"))
    assert float(line["std"]) == entries[0].outcomes["honest"].scores[ACCURACY].std
    assert (float(line["low"]), float(line["high"])) == entries[0].outcomes["honest"].scores[ACCURACY].interval
    assert (line["values"], line["seeds"], line["splits"], line["absent"]) == ("4", "2", "2", "94")
    (line,) = (x for x in lines if (x["row"], x["metric"]) == ("late", "macro_f1"))
    assert (line["published"], line["protocol"], line["mean"], line["seeds"]) == ("0.4", "", "", "")


def test_names_cannot_break_a_format():
    rows = {'a,"b"|c': {"published": {"test": {"accuracy": 0.5}}}, r"50%_\x{#}$&~^": {"published": {}}}
    entries = scores.summarise(rows, [])
    assert [line["row"] for line in csv.DictReader(io.StringIO(table.csv(entries)))] == list(rows)
    assert r"50\%\_\textbackslash{}x\{\#\}\$\&\textasciitilde{}\textasciicircum{} &" in table.latex(entries, "")
    assert all(line.replace(r"\|", "").count("|") == 5 for line in table.markdown(entries, "").splitlines()[:4])


def test_latex(entries):
    text = table.latex(entries, "a note")
    assert text.startswith("\\begin{tabular}{lllllllrr}\n\\toprule\nrow & metric & published")
    assert r"a\_1 & accuracy & 0.900 & 0.800 (0.70--0.90) & 0.550 $\pm$ 0.129 (0.45--0.68) & +0.250 &" in text
    assert text.endswith("\\bottomrule\n\\end{tabular}\n% a note\n")


def test_nothing_at_all_is_still_a_table(tmp_path):
    assert scores.read_runs(tmp_path / "nowhere", ROWS) == ([], [])
    assert table.footnote([], [], {}) == "No run is finished yet."
    assert table.markdown([], "").startswith("| row |")


def test_settings_that_are_not_the_configs_own_are_said(workdir):
    runs = scores.read_runs(workdir, ROWS)[0]
    own = config_of("paper", select="loss") | {"row": "a_1"}
    text = table.footnote(scores.summarise(ROWS, runs), runs, {"a_1": own})
    assert "Not as in the configs: " in text and "select is 'accuracy' instead of the study's 'loss';" in text + ";"
    assert "split_seed" not in text
    assert "Not as" not in table.footnote(scores.summarise(ROWS, runs), runs, {})


def test_a_setting_of_some_runs_is_said_in_words_with_their_number(workdir):
    runs = scores.read_runs(workdir, ROWS)[0]
    shorter = runs[0]._replace(config=runs[0].config | {"steps": 60, "extra": [1]})
    longer = runs[1]._replace(config=runs[1].config | {"steps": 800})
    own = {"a_1": runs[1].config | {"steps": 800, "new": 0.0, "stages": ((1, 2),)}}
    said = table.changed([shorter, longer._replace(config=longer.config | {"stages": [[1, 2]]})], own)
    assert "steps is 60 instead of the study's 800 in 1 of 2 runs" in said
    assert "extra is [1], which the study does not set in 1 of 2 runs" in said
    assert "stages is not set instead of the study's [[1, 2]] in 1 of 2 runs" in said
    assert "new" not in said and "(now" not in said


def test_another_duration_is_said_as_one_setting():
    of = lambda **own: {"epochs": 0.0, "steps": 0, "examples": 0, "eval_every": 1.0} | own
    assert table.differences(of(steps=60), of(epochs=12.0)) == [
        "the duration is 60 steps instead of the study's 12 epochs"
    ]
    assert table.differences(of(steps=60), of(steps=800)) == ["steps is 60 instead of the study's 800"]


def test_keys_that_say_how_a_run_is_computed_are_no_change_of_a_setting():
    """These keys are in the section `run`, or where earlier versions had them."""
    old = {"cpu_devices": 2, "keep": 3, "steps_per_call": 8, "data": {"name": "x", "source": "auto"}}
    new = {"run": {"cpu_devices": 1, "malloc": "huge_pages"}, "data": {"name": "x"}}
    assert table.differences(old, new) == table.differences(new, old) == []

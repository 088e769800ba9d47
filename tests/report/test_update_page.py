"""A study's table replaces what is between its marks."""

import pytest

from audiojax.errors import RunError
from audiojax.report.update_page import with_table
from tests.report.conftest import config_of, result_of, write_run

ROWS = {"done": {"published": {"test": {"accuracy": 0.9}}}, "undone": {"published": {}}}


def test_the_old_table_gives_way_and_the_rest_of_the_text_stays(tmp_path):
    write_run(tmp_path / "done" / "honest" / "split_0", config_of("honest"), result_of({"accuracy": [0.25]}))
    text = "above\n<!-- tones -->\nold\n<!-- /tones -->\nbelow\n"
    new = with_table(text, "tones", ROWS, {}, tmp_path)
    assert new.startswith("above\n<!-- tones -->\n| row |") and new.endswith("<!-- /tones -->\nbelow\n")
    assert "| done | 0.900 | 0.250 |" in new and "old" not in new and "undone" not in new
    assert with_table(new, "tones", ROWS, {}, tmp_path) == new


def test_marks_and_runs_must_be_there(tmp_path):
    with pytest.raises(RunError, match="no lines <!-- tones --> and <!-- /tones -->"):
        with_table("above\n", "tones", ROWS, {}, tmp_path)
    with pytest.raises(RunError, match="holds no finished run of tones"):
        with_table("<!-- tones -->\n<!-- /tones -->\n", "tones", ROWS, {}, tmp_path)

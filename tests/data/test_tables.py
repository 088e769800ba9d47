"""Rows of csv files."""

import re

import numpy as np
import pytest

from audiojax.data import tables
from audiojax.errors import DataError

TABLE = 'name,text\n\na,"one, two"\nb,"three\nfour; ""five"""\nc,é\n,\n'
ROWS = [(3, "a", "one, two"), (5, "b", 'three\nfour; "five"'), (6, "c", "é")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_csv_of_any_program_reads_the_same(encoding, separator, newline):
    fields = [["name", "text"], ["a", "one, two"], ["b", 'three\tfour; ""five""'], ["c", "é"], ["", ""]]
    text = newline.join(separator.join(f'"{field}"' for field in line) for line in fields) + newline
    rows = [(row["name"], row["text"]) for _, row in tables.read_rows(text.encode(encoding), ("name", "text"))]
    assert rows == [("a", "one, two"), ("b", 'three\tfour; "five"'), ("c", "é")]


def test_csv_keeps_newlines_in_quotes_and_counts_lines(encoding="utf-8"):
    rows = tables.read_rows(TABLE.encode(encoding), ("name", "text"))
    assert [(line, row["name"], row["text"]) for line, row in rows] == ROWS


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("name,text\na,é\n".encode("latin-1"), "neither UTF-8 nor UTF-16 .byte 0xE9 at position 12., so save it as"),
        (b"name,text\na,one, two\n", "line 2: 3 values under a header of 2 columns"),
        (b'name,text\na,"one\n', "unexpected end of data"),
        (b"name,text,text\na,b,c\n", "has the column text twice"),
        (b"name|text\na|b\n", "has no column name, text"),
        (b"", "has no column name, text"),
    ],
)
def test_csv_that_cannot_be_read_for_certain_says_why(content, why):
    with pytest.raises(ValueError, match=why):
        list(tables.read_rows(content, ("name", "text")))


BAD_TABLES = {
    "": "has no column clip or id, split or fold",
    "clip,part\na,1\n": "has no column split or fold",
    "clip,fold\n": "names no clip",
    "clip,fold\na,1\na,2\n": "line 3: a is named a second time",
    "clip,fold\na,\n": "line 2: an empty split",
    "clip,fold\na\n": "line 2: an empty split",
    "clip,genre,fold\na,polka,1\n": "line 2: the genre 'polka' is not among rock, pop",
}


@pytest.mark.parametrize("text", BAD_TABLES)
def test_table_that_does_not_fit_is_refused(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=f"{re.escape(str(path))}: {BAD_TABLES[text]}"):
        tables.read_table(path, "split|fold", ["rock", "pop"])


def test_table_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(DataError, match="absent.csv cannot be read .No such file"):
        tables.read_table(tmp_path / "absent.csv", "fold")
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match="binary.csv: its text is neither UTF-8 nor UTF-16"):
        tables.read_table(tmp_path / "binary.csv", "fold")


def test_first_of_two_columns_counts(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("id;artist;group\n1;x;y\n")
    assert tables.read_table(path, "group|artist") == {"1": "y"} != tables.read_table(path, "artist|group")


def test_names_of_clips_become_their_ids():
    ids = np.array(["a.1", "b"])
    assert tables.with_ids({"x/a.1.wav": 1, "C:\\b": 2, "y/c": 3}, ids, "t.csv") == {"a.1": 1, "b": 2, "y/c": 3}
    with pytest.raises(DataError, match="t.csv names b twice, once as x/b.wav"):
        tables.with_ids({"b": 1, "x/b.wav": 2}, ids, "t.csv")

"""Label files."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiojax.data import labels
from audiojax.errors import DataError

CLASSES = ["cat", "dog, big", '鳥 "x"']
names = st.text(string.ascii_letters + '0123_-.,"é ', min_size=1).filter(lambda name: name.strip() == name)


@given(
    st.dictionaries(
        names, st.tuples(st.sampled_from(CLASSES), st.sampled_from(["", "promoted"]), st.floats(0, 1e6)), min_size=1
    )
)
def test_what_is_written_is_read(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    columns = ("label", "subset", "weight")
    labels.write(
        path, [{"clip": clip, **dict(zip(columns, values)), "probability": 0.5} for clip, values in table.items()]
    )
    assert labels.read(path, CLASSES) == {clip: labels.Label(*values) for clip, values in table.items()}


def test_clip_and_label_suffice_and_other_columns_are_left_aside(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("\ufeffid,label,seen\n1,cat,yes\n2,cat,no\n")
    assert labels.read(path, CLASSES) == {"1": labels.Label("cat"), "2": labels.Label("cat", "", 1.0)}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no column clip or id, label"),
        ("clip,label\n", "names no clip"),
        ("clip,class\n1,cat\n", "has no column label"),
        ("clip,label\n1,cow\n", "line 2: the label 'cow' is none of the 3 classes"),
        ("clip,label\n1,cat\n1,cat\n", "line 3: 1 is named a second time"),
        ("clip,label\n,cat\n", "line 2: an empty clip"),
        ("clip,label,weight\n1,cat,heavy\n", "line 2: the weight 'heavy' must be a number from 0 on"),
        ("clip,label,weight\n1,cat,-1\n", "line 2: the weight '-1' must be a number from 0 on"),
        ("clip,label,weight\n1,cat,inf\n", "line 2: the weight 'inf' must be a number from 0 on"),
        ('clip,label\n"1,cat\n', "unexpected end of data"),
        ("clip,label,weight\n1,cat,0,5\n", "line 2: 4 values under a header of 3 columns; put a value"),
        ("clip,label\n1,cat\n2,dog, big\n", "line 3: 3 values under"),
        ("clip,label,label\n1,cat,cow\n", "has the column label twice"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, text, sentence):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=sentence):
        labels.read(path, CLASSES)


def test_empty_columns_at_the_end_are_left_aside(tmp_path):
    """A spreadsheet adds them."""
    path = tmp_path / "labels.csv"
    path.write_text("clip,label,,\n1,cat,,\n2,cat,,,,\n")
    assert labels.read(path, CLASSES) == {"1": labels.Label("cat"), "2": labels.Label("cat")}

"""Names of the files of generated clips."""

import pathlib
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiojax.cli.generate import LONGEST, file_names

ODD = [
    "../../x",
    "/etc/x",
    "a/b",
    "a\\b",
    "c\0d",
    "con",
    "NUL.txt",
    "com¹",
    ".",
    "..",
    "",
    " ",
    "-rf",
    ".hidden",
    "x" * 300,
]
ODD += ["caf\udce9", "a\nb", "a:b", "a*?", "100%", "鳥" * 50]


def opened(name):
    """What a file system that knows neither cases nor compositions opens by a name."""
    return unicodedata.normalize("NFKC", name).casefold()


def assert_safe(labels):
    names = file_names(labels)
    assert len({opened(name) for name in names}) == len(labels)
    for name in names:
        assert pathlib.PurePosixPath(name).name == pathlib.PureWindowsPath(name).name == name
        assert name.isprintable() and name[0] not in ".-~ " and len(name.encode()) <= LONGEST
        assert opened(name).split(".")[0].strip() not in ("con", "nul", "aux", "prn", "com1")
    return names


def test_a_plain_label_names_its_files():
    labels = ["blues", "Acoustic_guitar", "Hi-hat", "R&B, 80's (live)", "Mr. Tambourine", "鳥", "1"]
    assert assert_safe(labels) == labels


@pytest.mark.parametrize("label", ODD)
def test_a_label_that_cannot_name_a_file_is_replaced(label):
    [name, other] = assert_safe([label, "plain"])
    assert name.endswith("%0") and other == "plain"


def test_labels_that_a_file_system_takes_for_one_have_two_names():
    names = assert_safe(["Rock", "rock", "é", "e\u0301", "rock%0", "Rock%1", "a/b", "a_b", "a\\b", "Straße", "STRASSE"])
    assert names[:2] == ["Rock%0", "rock%1"] and "a_b" in names


@given(st.lists(st.text(min_size=0, max_size=120) | st.sampled_from(ODD), unique=True, max_size=12))
def test_names_are_one_to_one_and_safe(labels):
    assert_safe(labels)

"""What a run shows."""

import io

import pytest
import rich.console

from audiojax import console

RESULT = {
    **{"study": "study", "row": "row", "protocol": "honest", "examples": {"test": 6}},
    "published": {"test": {"accuracy": 0.5}},
    "metrics": {"test": {"accuracy": [0.1234, 0.5678], "loss": [2.5, 3.5]}},
    "ci95": {"test": {"accuracy": [[0.111, 0.222], [0.333, 0.444]]}},
}


def shown_digits(width):
    """Every digit of the result's table, sorted."""
    file = io.StringIO()
    rich.console.Console(file=file, width=width).print(console.result_table(RESULT))
    return sorted(filter(str.isdigit, file.getvalue()))


@pytest.mark.parametrize("width", [18, 40])
def test_no_digit_is_lost_on_a_narrow_terminal(width):
    assert shown_digits(width) == shown_digits(200)

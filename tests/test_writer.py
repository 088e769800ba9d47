import json

from audiojax.writer import finite


def test_what_is_not_finite_is_null():
    tree = {"a": [1.0, float("nan"), float("-inf")], "b": {"c": float("inf"), "d": "inf", "e": 3}, "f": (True, None)}
    assert json.loads(json.dumps(finite(tree), allow_nan=False)) == {
        "a": [1.0, None, None],
        "b": {"c": None, "d": "inf", "e": 3},
        "f": [True, None],
    }

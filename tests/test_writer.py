import json

from audiojax.writer import finite, provenance


def test_what_is_not_finite_is_null():
    tree = {"a": [1.0, float("nan"), float("-inf")], "b": {"c": float("inf"), "d": "inf", "e": 3}, "f": (True, None)}
    assert json.loads(json.dumps(finite(tree), allow_nan=False)) == {
        "a": [1.0, None, None],
        "b": {"c": None, "d": "inf", "e": 3},
        "f": [True, None],
    }


def test_a_host_without_git_has_no_commit_and_goes_on(monkeypatch, tmp_path):
    assert provenance()["versions"]["jax"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance()["commit"] is None

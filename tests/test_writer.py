import json
import os
import subprocess
import sys

import jax
import pytest

from audiojax.errors import RunError
from audiojax.recipes import single
from audiojax.writer import check_owner, finite, provenance, read_result
from tests.conftest import ROOT


def test_what_is_not_finite_is_null():
    tree = {"a": [1.0, float("nan"), float("-inf")], "b": {"c": float("inf"), "d": "inf", "e": 3}, "f": (True, None)}
    assert json.loads(json.dumps(finite(tree), allow_nan=False)) == {
        "a": [1.0, None, None],
        "b": {"c": None, "d": "inf", "e": 3},
        "f": [True, None],
    }


def test_a_host_without_git_has_no_commit_and_goes_on(monkeypatch, tmp_path):
    assert provenance(jax.devices())["versions"]["jax"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance(jax.devices())["commit"] is None


def test_tensorboard_starts_without_pytorch_and_leaves_it_importable(tmp_path):
    (tmp_path / "torch.py").write_text("print('imported')")
    code = (
        "import pathlib; from audiojax.writer import start_tensorboard;"
        f"start_tensorboard(pathlib.Path({str(tmp_path / 'events')!r}), 0).close(); print('started'); import torch"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment, check=True
    )
    assert done.stdout.split() == ["started", "imported"]
    assert list((tmp_path / "events").glob("events.*"))


@pytest.mark.parametrize("text", ["", "[]", "5", "null", '"text"', b"\xff"])
def test_what_holds_no_json_object_is_one_sentence(tmp_path, text):
    for name in ("config.json", "result.json"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RunError, match="result.json cannot be read .*; remove it: the same command evaluates"):
        read_result(tmp_path)
    for read in (single.read_config, lambda folder: check_owner(folder, {})):
        with pytest.raises(RunError, match="config.json cannot be read"):
            read(tmp_path)

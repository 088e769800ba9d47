import json
import os
import subprocess
import sys

import jax

from audiojax.writer import finite, provenance
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


def test_the_commit_is_this_programs_own(monkeypatch, tmp_path):
    """Not that of the repository in whose hook it runs."""
    commit = provenance(jax.devices())["commit"]
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    assert provenance(jax.devices())["commit"] == commit

"""The wheel holds the package, its template and nothing else, and its command runs where it is installed."""

import importlib.metadata
import os
import subprocess
import sys
import zipfile

import pytest

import audiojax
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        int(importlib.metadata.version("setuptools").split(".")[0]) < 77, reason="the build needs setuptools 77"
    ),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of a copy of the tracked files, so that the build leaves nothing in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder / "source")
    [path] = folder.glob("*.whl")
    return path


def pip(*arguments):
    done = subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = (path for path in (ROOT / "audiojax").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert held == {str(path.relative_to(ROOT)) for path in files}


def test_its_command_runs_elsewhere(wheel, tmp_path):
    pip("install", "--no-deps", "--target", tmp_path / "site", wheel)

    def run(*arguments):
        command = [sys.executable, tmp_path / "site" / "bin" / "audiojax", *arguments]
        environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert run("--version").stdout == f"audiojax {audiojax.__version__}\n"
    failed = run("generate", "nowhere", "--out=clips")
    assert failed.returncode == 1 and failed.stderr == "audiojax: nowhere holds no finished run; train it first.\n"

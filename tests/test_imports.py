"""The import directions of the package, read from its source."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "audiojax"
ORDER = [  # a module imports from its own entry and from those behind it
    *("cli", "command_line", "study", "recipes", "experiment", "trained", "report", "train", "evaluate"),
    *("runs", "lock", "tasks", "data", "checkpoint", "writer", "trackers", "optim", "grid", "mesh", "console"),
    *("inversion", "models", "ops", "frontend", "augment", "losses", "metrics", "names", "state", "duration", "ranges"),
    *("config_file", "process", "host", "durable", "errors"),
]
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path: pathlib.Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_to_the_right(path):
    if (own := part(path)) == "__init__":
        return
    for name in imported(path):
        if name.startswith("audiojax."):
            assert ORDER.index(name.split(".")[1]) >= ORDER.index(own), name
        assert not name.startswith("third_party")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_tensorflow_and_decoders_are_imported_in_data_alone(path):
    heavy = {name.split(".")[0] for name in imported(path)} & {
        "tensorflow",
        "tensorflow_datasets",
        "soundfile",
        "soxr",
    }
    allowed = path.is_relative_to(PACKAGE / "data" / "datasets") or path.name in (
        *("audio_file.py", "containers.py", "pipeline.py", "prepare.py"),
    )
    assert not heavy or allowed


def test_models_import_shared_layers_alone():
    for path in (PACKAGE / "models").glob("*.py"):
        ours = {name for name in imported(path) if name.startswith("audiojax")}
        allowed = ("audiojax", "audiojax.models", "audiojax.models.layers", "audiojax.ops")
        assert all(name in allowed or name.startswith("audiojax.ops.") for name in ours), path


def test_data_sets_import_their_base_alone():
    allowed = (
        *("audiojax.data.datasets.base", "audiojax.data.datasets.synthesiser"),
        "audiojax.errors",
        *("audiojax.data.archive", "audiojax.data.audio_file", "audiojax.data.release", "audiojax.data.tables"),
    )
    for path in {*(PACKAGE / "data" / "datasets").glob("*.py")} - {PACKAGE / "data" / "datasets" / "base.py"}:
        assert all(name.startswith(allowed) for name in imported(path) if name.startswith("audiojax")), path


def test_configs_import_common_and_ml_collections_alone():
    for path in (ROOT / "configs").glob("*.py"):
        roots = {name.split(".")[0] for name in imported(path)}
        assert roots <= {"configs", "ml_collections", "difflib"}, path


def test_launch_is_short():
    assert len((ROOT / "launch.py").read_text().splitlines()) < 80

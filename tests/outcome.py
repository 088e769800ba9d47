"""What a run leaves, to compare with another's."""

import json

import jax
import numpy as np
import orbax.checkpoint as ocp


def outcome(workdir):
    """What must not depend on how a run came about: result, predictions, parameters, logged values."""
    result = json.loads((workdir / "result.json").read_text())
    with np.load(workdir / "predictions" / "test.npz") as arrays:
        score = arrays["score"]
    folder = max((workdir / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name)).absolute() / "tree"
    checkpointer = ocp.PyTreeCheckpointer()
    saved = checkpointer.metadata(folder).item_metadata.tree
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
    tree = checkpointer.restore(folder, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    log = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return result, score, jax.tree.map(np.asarray, tree), log


def assert_same(one, other):
    """Bit for bit."""
    (result, score, tree, log), (result2, score2, tree2, log2) = one, other
    np.testing.assert_array_equal(score, score2)
    jax.tree.map(np.testing.assert_array_equal, tree, tree2)
    assert result["best_step"] == result2["best_step"]
    assert result["metrics"] == result2["metrics"]
    assert log == log2


def assert_close(one, other):
    """To float tolerance. Where a gradient is nothing but rounding, Adam makes a step of up to its rate (2e-4) of it:
    hence the absolute tolerance on parameters, which travel 5e-3."""
    (result, score, tree, _), (result2, score2, tree2, _) = one, other
    np.testing.assert_allclose(score, score2, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), tree, tree2)
    assert result["best_step"] == result2["best_step"]

"""Whole runs on small data of several replicas, on several devices and in several processes."""

import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
import sklearn.metrics

from audiojax.recipes import single
from tests.conftest import EIGHT_DEVICES, ROOT, SMALL_LI_FLAGS, launch, small_li
from tests.outcome import assert_close, outcome


@pytest.mark.slow
def test_processes_of_one_run_that_differ_say_so_and_end(data_dir, tmp_path):
    flags = [f"--workdir={tmp_path / 'run'}", f"--data_dir={data_dir}"]
    for other, said in (
        ("--config.optim.lr=0.5", "config.optim.lr is 0.5 on process 1 and 0.0002 on process 0"),
        ("--config.batch_size=32", "config.batch_size is 32 on process 1 and 64 on process 0"),
    ):
        for code, stderr in two_processes(flags, [*flags, other], timeout_s=60):
            assert code == 1 and said in stderr and "Traceback" not in stderr
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.slow
def test_failure_of_the_first_process_ends_the_others(tmp_path):
    """So does a process that does not see the data."""
    flags = [f"--workdir={tmp_path / 'run'}", f"--data_dir={tmp_path}", f"--raw_dir={tmp_path}"]
    for code, stderr in two_processes(*[[*flags, "--config.data.variant=released"]] * 2, timeout_s=60):
        assert code == 1 and "has no folder audioset" in stderr and "Traceback" not in stderr
    flags = [f"--workdir={tmp_path / 'run'}"]
    data = [f"--data_dir={tmp_path / host}" for host in ("one", "two")]
    for code, stderr in two_processes(*[[*flags, folder] for folder in data], timeout_s=120):
        assert code == 1 and 'audioset is "absent" on process 1 and "prepared" on process 0' in stderr


def test_eight_devices_give_the_single_device_result(reference, data_dir, tmp_path):
    done = launch(
        *SMALL_LI_FLAGS,
        f"--workdir={tmp_path / 'run'}",
        f"--data_dir={data_dir}",
        "--config.run.cpu_devices=8",
        **EIGHT_DEVICES,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["device"].startswith("8 ×")
    assert_close(outcome(tmp_path / "run"), outcome(reference))


def two_processes(*flags: list[str], timeout_s: float = 240) -> list[tuple[int, str]]:
    """Exit code and stderr of the two processes of one run, each with flags of its own."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    cluster = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "launch.py", *SMALL_LI_FLAGS, *own],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=os.environ | cluster | {"JAX_PROCESS_ID": str(process)},
        )
        for process, own in enumerate(flags)
    ]
    try:
        return [(process.communicate(timeout=timeout_s)[1], process.returncode)[::-1] for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("source", ["resident", "stream"])
def test_two_processes_give_the_single_process_result(reference, data_dir, tmp_path, source):
    workdir = tmp_path / "run"
    flags = [f"--config.run.source={source}", f"--workdir={workdir}", f"--data_dir={data_dir}"]
    for code, stderr in two_processes(flags, flags):
        assert code == 0, stderr
    assert json.loads((workdir / "result.json").read_text())["device"].startswith("2 ×")
    assert_close(outcome(workdir), outcome(reference))


@pytest.mark.slow
def test_replicas_end_where_their_single_runs_do(data_dir, tmp_path):
    steps = dict(steps=10, eval_every=10, run__steps_per_call=10)
    single.run(small_li("lstm", replicas=2, seed=7, **steps), tmp_path / "all", None, data_dir)
    result, score, tree, _ = outcome(tmp_path / "all")
    assert score.shape[0] == 2
    with np.load(tmp_path / "all" / "predictions" / "test.npz") as saved:
        mean_auc = sklearn.metrics.roc_auc_score(saved["label"], score.mean(0), average="macro")
    assert result["metrics"]["test_ensemble"]["mAUC"] == [pytest.approx(mean_auc, rel=1e-6)]
    for replica in range(2):
        workdir = tmp_path / f"single_{replica}"
        single.run(small_li("lstm", seed=7 + replica, **steps), workdir, None, data_dir)
        result_1, score_1, tree_1, _ = outcome(workdir)
        for kept in ("state", "best"):
            own = jax.tree.map(lambda leaf, r=replica: leaf[r : r + 1], tree[kept]["params"])
            close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
            jax.tree.map(close, own, tree_1[kept]["params"])
        np.testing.assert_allclose(score[replica], score_1, rtol=1e-3, atol=1e-5)
        assert result["best_step"][replica] == result_1["best_step"][0]
        assert result["metrics"]["test"]["mAUC"][replica] == pytest.approx(
            result_1["metrics"]["test"]["mAUC"][0], abs=1e-4
        )


@pytest.mark.slow
def test_replicas_on_the_replica_axis_of_the_mesh(data_dir, tmp_path):
    flags = [*SMALL_LI_FLAGS, "--config.replicas=4", f"--data_dir={data_dir}"]
    alone = launch(*flags, f"--workdir={tmp_path / 'one'}")
    spread = launch(*flags, "--config.run.cpu_devices=8", f"--workdir={tmp_path / 'eight'}", **EIGHT_DEVICES)
    assert alone.returncode == spread.returncode == 0, alone.stderr + spread.stderr
    assert_close(outcome(tmp_path / "one"), outcome(tmp_path / "eight"))

"""Benchmarks that nothing else runs still run."""

import jax.numpy as jnp
import pytest

from benchmarks import replicas


@pytest.mark.slow
def test_replicas_train_by_a_step_at_each_call(monkeypatch):
    finished = []
    monkeypatch.setattr(replicas.jax, "block_until_ready", finished.append)
    step = replicas.step_of("cnn1d_gap", 2)
    step()
    assert jnp.isfinite(finished[0]["loss"]).all() and finished[0]["loss"].shape == (2,)

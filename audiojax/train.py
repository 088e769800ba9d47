"""The training loop."""

import contextlib
import functools
import math
import os
import pathlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from audiojax import checkpoint, console, grid, names
from audiojax import mesh as meshes
from audiojax.checkpoint import Checkpoints
from audiojax.data import order
from audiojax.duration import duration
from audiojax.errors import ConfigError, Interrupted, NonFiniteError
from audiojax.evaluate import Evaluator
from audiojax.state import Best, TrainState, first_weights
from audiojax.writer import Writer


class Trainer:
    """Trains all replicas of a config on a mesh: compiled steps, evaluation, checkpoints."""

    def __init__(self, config, task, source, parts, mesh, checkpoints: Checkpoints, writer: Writer):
        self._config, self._task, self._source, self._mesh = config, task, source, mesh
        self._checkpoints, self._writer = checkpoints, writer
        self._examples = len(parts["train"].id)
        self.total_steps, self.eval_steps = duration(config, self._examples)
        self._sign = task.sign(config.select)  # raises for a metric that the task lacks
        self._check_size()  # before any replica is allocated
        self._settings = grid.settings(config)
        self._seeds = config.seed + np.arange(config.replicas) * (not self._settings)  # one seed for a grid
        self.evaluator = Evaluator(task, source, parts, mesh, config.eval_batch_size, config.replicas)
        self._by_replica = jax.sharding.NamedSharding(mesh, meshes.STATE)
        everywhere = jax.sharding.NamedSharding(mesh, meshes.REPLICATED)
        trained = dict(donate_argnums=0, out_shardings=(self._by_replica, everywhere))
        self._scan_steps = jax.jit(self._steps, **trained)
        self._single_step = jax.jit(self._one_step, **trained)
        self._take = jax.jit(source.take, out_shardings=jax.sharding.NamedSharding(mesh, meshes.TRAIN))
        self._evaluated = jax.jit(meshes.over_replicas(task.evaluated, config.replicas))
        self._update_best = jax.jit(self._prefer, donate_argnums=0, out_shardings=self._by_replica)
        self._compiled: set[int] = set()  # lengths of the calls compiled so far
        self.time_s = {"compile": 0.0, "train": 0.0, "input": 0.0, "eval": 0.0}
        self._diverged: dict[int, dict] = {}  # replica -> first "step" and "quantity" that was not finite

    def run(self, start_from: pathlib.Path | None = None, watch: Callable | None = None) -> tuple[Best, int]:
        """Trains to the end, from the newest checkpoint where there is one.

        A replica whose loss, gradient or validation metric is not finite has diverged. Validation no longer chooses it,
        and the other replicas go on.

        Args:
          start_from: folder of a run of the same network, whose weights are the first ones; see `first_weights`.
          watch: called at each evaluation with the step, params, model_state and validation's metrics. With it, there
            is also an evaluation before the first step.

        Returns:
          what validation chose; the number of steps done.

        Raises:
          ConfigError: start_from has another network or number of replicas. RunError: it has no checkpoint.
          NonFiniteError: all replicas have diverged. Interrupted: SIGINT, SIGTERM or SIGHUP; all is saved.
        """
        state, best = self._start(start_from)
        step = int(state.step[0])
        if watch and step == 0:
            evaluated = self._evaluated(state)
            watch(0, *evaluated, self._validate(0, *evaluated))
        seeds = meshes.put(self._seeds.astype(np.uint32), self._mesh, meshes.STATE)
        calls = self._calls(step)
        rows = lambda call: order.train_rows(self._examples, self._seeds, self._config.batch_size, *call)
        feed = self._source.feed("train", calls, rows, meshes.TRAIN)
        fed_calls = zip(calls, feed)
        shown = console.bar("step", self.total_steps, step)
        with contextlib.closing(feed), shown as progress, StopSignals() as stop:
            while step < self.total_steps and not (stopped := self._stopped(step, best)).all():
                interval_end = self._next_evaluation(step)
                log = functools.partial(self._log, stopped, progress)
                try:
                    state, step = self._advance(state, seeds, fed_calls, interval_end, log, stop)
                    if step == interval_end:
                        best = self._evaluate(state, best, step, stopped, watch)
                except NonFiniteError:
                    self._checkpoints.wait()  # Another run may start from it.
                    raise
                self._checkpoints.save(step, {"state": state, "best": best}, self._progress())
                if stop.requested(at_evaluation=step == interval_end):
                    self._checkpoints.wait()
                    name = stop.name or "another process"
                    raise Interrupted(f"stopped by {name} at step {step}; all is saved: the same command goes on.")
        self._checkpoints.wait()
        return best, step

    def _start(self, start_from: pathlib.Path | None) -> tuple[TrainState, Best]:
        """The first state: of the newest checkpoint where there is one."""
        keys = jax.vmap(jax.random.key)(jnp.asarray(self._seeds))
        data, x = self._first_batch(self._seeds)

        def init(keys, settings, data, x):
            batch = self._source.take(data, jax.tree.map(lambda a: a[0], x))
            return meshes.over_replicas(self._first, self._config.replicas)(keys, settings, batch)

        state, best = jax.jit(init, out_shardings=self._by_replica)(keys, self._settings, data, x)
        step = self._checkpoints.latest_step()
        if step is None:
            if start_from:
                saved = checkpoint.read(start_from / "checkpoints")
                weights = first_weights(saved, (state.params, state.model_state), str(start_from))
                params, model_state = meshes.put(weights, self._mesh, meshes.STATE)
                state = state.replace(params=params, model_state=model_state)
            self._writer.begin(-1)
            return state, best
        tree, progress = self._checkpoints.restore({"state": state, "best": best})
        self.time_s = progress["time_s"]
        self._diverged = {int(replica): mark for replica, mark in progress.get("diverged", {}).items()}
        self._writer.begin(step)
        console.say(f"resumed at step {step} of {self.total_steps}")
        return tree["state"], tree["best"]

    def _progress(self) -> dict:
        """What a checkpoint holds besides arrays."""
        return {"time_s": self.time_s, "diverged": {str(replica): mark for replica, mark in self._diverged.items()}}

    def _first_batch(self, seeds: np.ndarray) -> tuple[Any, Any]:
        """The training data and the first batch of each seed, as the source feeds them."""
        rows = lambda call: order.train_rows(self._examples, seeds, self._config.batch_size, 0, 1)
        return self._source.data("train"), next(self._source.feed("train", [0], rows, meshes.TRAIN))

    def _first(self, key: jax.Array, settings: dict[str, jax.Array], batch: dict) -> tuple[TrainState, Best]:
        """The state of one replica before its first step, with nothing chosen."""
        state = self._task.init(key, settings, batch)
        return state, Best(jnp.full((), -jnp.inf), jnp.zeros_like(state.step), *self._task.evaluated(state))

    def _check_size(self) -> None:
        """Reports the size of the network, from the shapes of one replica. Raises ConfigError where it cannot fit."""

        def init(key, data, x):
            batch = self._source.take(data, jax.tree.map(lambda a: a[0, 0], x))
            return self._first(key, {key: jnp.float32(values[0]) for key, values in grid.columns(self._config)}, batch)

        key, replicas = jax.random.key(0), self._config.replicas
        state, best = jax.eval_shape(init, key, *self._first_batch(np.arange(self._mesh.shape["replica"])))
        size = lambda tree: sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
        gradients = state.params
        needed_gb = (size(state) + size(best) + size(gradients)) * replicas / self._mesh.shape["replica"] / 1e9
        parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        size_text = f"{parameters:,} parameters" + f" × {replicas:,}" * (replicas > 1)
        console.say(f"{size_text}: {needed_gb:.3g} GB with gradients, optimiser and the chosen weights")
        if needed_gb > (available_gb := meshes.memory_bytes(self._mesh) / 1e9):
            raise ConfigError(
                f"{size_text} need {needed_gb:.3g} GB, and a device has {available_gb:.3g} GB: take shorter clips"
                " (data.segment.seconds), narrower layers, or fewer replicas."
            )

    def _train_call(self, state: TrainState, data: Any, x: Any, seeds: jax.Array):
        """Runs as many steps as x holds batches; the logs have a leading axis of steps."""
        if self._config.run.steps_per_call > 1:
            return self._scan_steps(state, data, x, seeds)
        # XLA on CPU runs convolutions inside a loop on one thread, ten times slower: a single step is no loop. Another
        # program gathers its batch, so that the step is compiled once for data of any size.
        return self._single_step(state, self._take(data, x), seeds)

    def _steps(self, state: TrainState, data: Any, x: Any, seeds: jax.Array):
        """Several steps in one program."""
        return jax.lax.scan(lambda state, x: self._step(state, self._source.take(data, x), seeds), state, x)

    def _one_step(self, state: TrainState, batches: dict[str, jax.Array], seeds: jax.Array):
        """A single step without a loop; batches and logs have a leading axis of one step."""
        state, logs = self._step(state, jax.tree.map(lambda leaf: leaf[0], batches), seeds)
        return state, jax.tree.map(lambda leaf: leaf[None], logs)

    def _step(self, state: TrainState, batch: dict[str, jax.Array], seeds: jax.Array):
        """One step of all replicas. Its randomness is a function of (seed, step)."""
        fold = lambda seed, step: jax.random.fold_in(jax.random.key(seed), step)
        keys = jax.vmap(fold)(seeds, state.step)
        with jax.sharding.use_abstract_mesh(self._mesh.abstract_mesh):  # Layers read it.
            return meshes.over_replicas(self._task.train_step, self._config.replicas)(state, batch, keys)

    def _next_evaluation(self, step: int) -> int:
        """The first evaluation after `step`."""
        return min((step // self.eval_steps + 1) * self.eval_steps, self.total_steps)

    def _calls(self, start: int) -> list[tuple[int, int]]:
        """The calls of the rest of the run, each (first step, end). None crosses an evaluation, and each depends on the
        step alone: a resumed run makes the same calls."""
        size, calls = self._config.run.steps_per_call, []
        while start < self.total_steps:
            end = self._next_evaluation(start)
            calls += [(first, min(first + size, end)) for first in range(start, end, size)]
            start = end
        return calls

    def _advance(
        self,
        state: TrainState,
        seeds: jax.Array,
        fed_calls: Iterator,
        end: int,
        log: Callable,
        stop_signals: "StopSignals",
    ) -> tuple[TrainState, int]:
        """Runs the calls up to step `end`, fewer where a signal asks to stop. Returns the state and the steps done.

        The logs of a call are read after the next call is dispatched, so that the device never waits for them.
        """
        data, pending, previous_s, stop = self._source.data("train"), None, time.perf_counter(), 0
        while stop < end:
            asked_s = time.perf_counter()
            (first, stop), x = next(fed_calls)
            if not pending or pending[-1]["loss"].is_ready():  # The device has been waiting for input.
                self.time_s["input"] += time.perf_counter() - asked_s
            dispatched_s = time.perf_counter()
            with jax.transfer_guard("disallow"):
                state, logs = self._train_call(state, data, x, seeds)
            if stop - first not in self._compiled:
                self._compiled.add(stop - first)
                compile_s = time.perf_counter() - dispatched_s
                self.time_s["compile"] += compile_s
                previous_s += compile_s
            if pending:
                previous_s = log(*pending, previous_s)
            pending = first, stop, logs
            if stop < end and stop_signals.requested(at_evaluation=False):
                break
        log(*pending, previous_s)
        return state, stop

    def _log(
        self, stopped: np.ndarray, progress: Callable, first: int, stop: int, logs: dict, previous_s: float
    ) -> float:
        """Checks and records the logs of steps first … stop-1. Returns the time now. stopped: see `_stopped`."""
        logs = jax.device_get(logs)  # [steps, replicas]
        now_s = time.perf_counter()
        self.time_s["train"] += now_s - previous_s
        quantities = sorted(logs, key=lambda name: name != "loss")  # reports the loss first
        wrong = ~np.isfinite(np.stack([logs[name] for name in quantities], 1))  # [steps, quantities, replicas]
        for replica in np.flatnonzero(wrong.any((0, 1)) & ~stopped & ~self._has_diverged()):
            step, number = np.argwhere(wrong[..., replica])[0]
            quantity = quantities[number]
            self._mark_diverged(replica, first + step + 1, quantity, logs[quantity][step, replica])
        self._writer.log(stop, {f"train/{name}": values.mean(0).tolist() for name, values in logs.items()})
        examples = (stop - first) * self._config.batch_size * self._config.replicas
        speed = examples / max(now_s - previous_s, 1e-9)
        progress(stop, f"loss {logs['loss'][:, ~self._has_diverged()].mean():.4f} {speed:,.0f} examples/s")
        return now_s

    def _mark_diverged(self, replica: int, step: int, quantity: str, value: float) -> None:
        """Marks a replica as diverged. Raises NonFiniteError where none is left."""
        replica = int(replica)
        self._diverged[replica] = {"step": int(step), "quantity": quantity}
        several = f" of the replica with {self._name(replica)}" if len(self._seeds) > 1 else ""
        what = f"{quantity} is {value} at step {step}{several}"
        if self._has_diverged().all():
            every = f"all {len(self._seeds)} replicas have diverged: " if several else ""
            raise NonFiniteError(
                f"{every}{what}; lower optim.lr or set optim.clip_norm in a new --workdir, where"
                " --config.start_from=RUN, with this run's folder, starts from the weights that validation chose.",
                self._diverged[replica],
            )
        console.say(f"{what}: validation no longer chooses it, and the others go on")

    def _has_diverged(self) -> np.ndarray:
        """Which replicas have diverged: bool [replicas]."""
        return np.isin(np.arange(self._config.replicas), list(self._diverged))

    def _validate(self, step: int, params: Any, model_state: Any) -> dict[str, list[float]]:
        """Computes and logs the metrics of validation. All processes get those of the first, and so decide alike."""
        summary = self.evaluator.report("valid", self.evaluator.scores("valid", params, model_state)).summary
        summary = meshes.from_first(summary)
        self._writer.log(step, {f"valid/{name}": values for name, values in summary.items()})
        return summary

    def _evaluate(self, state: TrainState, best: Best, step: int, stopped: np.ndarray, watch: Callable | None) -> Best:
        """Scores validation and keeps the weights of each replica that is better than before and not stopped."""
        started_s = time.perf_counter()
        params, model_state = self._evaluated(state)
        summary = self._validate(step, params, model_state)
        chosen_by = self._config.select
        names.choose("select", chosen_by, summary)
        values = np.asarray(summary[chosen_by], np.float32)
        if (np.isnan(values) & np.isfinite(summary["loss"])).any():
            raise NonFiniteError(f"valid {chosen_by} is not finite at step {step}; is every class in valid?")
        stopped = stopped | self._has_diverged()
        for replica in np.flatnonzero(np.isnan(values) | (np.isinf(values) & (self._sign < 0))):
            if not stopped[replica]:
                self._mark_diverged(replica, step, f"valid {chosen_by}", values[replica])
        score = np.where(stopped | self._has_diverged(), -np.inf, self._sign * values).astype(np.float32)
        score = meshes.put(score, self._mesh, meshes.STATE)
        best = self._update_best(best, score, state.step, params, model_state)
        if watch:
            watch(step, params, model_state, summary)
        if not console.console.is_terminal:
            shown = " ".join(f"{value:.4f}" for value in summary[chosen_by])
            console.say(
                f"step {step} of {self.total_steps}: valid {chosen_by} {shown}, best at step {self.best_steps(best)}"
            )
        self.time_s["eval"] += time.perf_counter() - started_s
        return best

    def _name(self, replica: int) -> str:
        """A replica's name: its settings in a grid, else its seed."""
        own = {key: f"{values[replica]:g}" for key, values in self._settings.items()}
        return ", ".join(f"{key}={value}" for key, value in own.items()) or f"seed {self._seeds[replica]}"

    @staticmethod
    def _prefer(best: Best, score: jax.Array, step: jax.Array, params: Any, model_state: Any) -> Best:
        better = score > best.score
        candidate = Best(score, step, params, model_state)
        choose = lambda new, old: jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)
        return jax.tree.map(choose, candidate, best)

    def _stopped(self, step: int, best: Best) -> np.ndarray:
        """Which replicas have diverged, or not improved for `early_stopping` evaluations: bool [replicas]."""
        patience = self._config.early_stopping or math.inf
        return self._has_diverged() | ((step - self.best_steps(best)) >= patience * self.eval_steps)

    @staticmethod
    def best_steps(best: Best) -> np.ndarray:
        """The step that validation chose for each replica: int32 [replicas]."""
        return np.asarray(multihost_utils.process_allgather(best.step, tiled=True))

    @staticmethod
    def chosen(best: Best) -> np.ndarray:
        """For which replicas validation chose a step: bool [replicas]."""
        return np.asarray(multihost_utils.process_allgather(best.score, tiled=True)) > -np.inf

    def diverged(self) -> dict[str, dict]:
        """Step and quantity at which each replica diverged, by seed; in a grid by number from 0."""
        name = lambda replica: f"replica {replica}" if self._settings else self._name(replica)
        return {name(replica): self._diverged[replica] for replica in sorted(self._diverged)}

    def divergences(self, best: Best) -> list[str]:
        """A sentence for each diverged replica."""
        chosen, steps, sentences = self.chosen(best), self.best_steps(best), []
        for replica, mark in sorted(self._diverged.items()):
            kept = f"its scores are those of step {steps[replica]}, which validation had chosen"
            none = (
                "validation had chosen no step of it, and metrics, ensembles and predictions leave it out: they are of"
                f" {chosen.sum()} of {len(chosen)} replicas"
            )
            sentences.append(
                f"the replica with {self._name(replica)} diverged ({mark['quantity']} was not finite at step"
                f" {mark['step']}): {kept if chosen[replica] else none}"
            )
        return sentences


class StopSignals:
    """SIGINT, SIGTERM and SIGHUP ask the loop to stop at the next call; a second SIGINT ends the program at once."""

    def __init__(self):
        self.name = None

    def __enter__(self):
        asking = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it
            asking.append(signal.SIGHUP)
        self._terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]
        self._previous = {s: signal.signal(s, self._ask) for s in asking}
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number, frame):
        self.name = signal.Signals(number).name
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if number == signal.SIGHUP:
            for descriptor in self._terminals:  # The terminal is gone: a write would fail.
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)

    def requested(self, at_evaluation: bool) -> bool:
        """Whether to stop now. Several processes agree on it, at evaluations only."""
        if jax.process_count() == 1:
            return self.name is not None
        return at_evaluation and bool(multihost_utils.process_allgather(np.array(self.name is not None)).any())

"""What training carries from step to step."""

from typing import Any

import flax.struct
import jax


class TrainState(flax.struct.PyTreeNode):
    """State of one replica, or of all with a leading replica axis on every array.

    step: int32, steps done. params: the model's parameters, float32. model_state: its other variables (batch
    statistics). opt_state: the optimiser's. average: `optim.Average` of (params, model_state), or None. settings: what
    this replica has in place of the config's values, where there is a grid, by key.
    """

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: Any
    average: Any
    settings: dict[str, jax.Array]


class Best(flax.struct.PyTreeNode):
    """The evaluation that validation prefers so far, by replica: its score (higher is better), step and weights."""

    score: jax.Array
    step: jax.Array
    params: Any
    model_state: Any

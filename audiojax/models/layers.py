"""Layers that several networks share."""

from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from audiojax.ops import convolution, norm, one_by_one, recurrent

ACTIVATIONS = (  # of flax.linen, without parameters, that keep the shape
    *("celu", "elu", "gelu", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "leaky_relu", "log_sigmoid"),
    *("log_softmax", "relu", "relu6", "selu", "sigmoid", "silu", "soft_sign", "softmax", "softplus", "swish", "tanh"),
)


def initialiser(name: str) -> Callable:
    """Returns an initialiser of `flax.linen.initializers`, such as "glorot_uniform". Raises ValueError without one.

    Orthogonal kernels of replicas are made one by one: JAX's factorisation of several at once can deadlock on CPU.
    """
    if not hasattr(nn.initializers, name):
        raise ValueError(f"kernel_init={name!r} is not in flax.linen.initializers; choose one of its functions")
    init = getattr(nn.initializers, name)()
    if "orthogonal" not in name:
        return init
    return lambda key, shape, dtype=jnp.float32: one_by_one(lambda key: init(key, shape, dtype))(key)


def activation(name: str) -> Callable:
    """Returns one of `ACTIVATIONS` by name. Raises ValueError for another name."""
    if name not in ACTIVATIONS:
        raise ValueError(f"there is no activation {name!r}; activations: {', '.join(ACTIVATIONS)}")
    return getattr(nn, name)


def standardise(x: jax.Array, train: bool, momentum: float = 0.99) -> jax.Array:
    """Scales each feature of the last axis to mean 0 and variance 1, after training by running averages."""
    return nn.BatchNorm(not train, momentum=momentum, use_bias=False, use_scale=False, name="standardise")(x)


class BatchNorm(nn.Module):
    """`flax.linen.BatchNorm` over all axes but the last, with a scale and a bias."""

    use_running_average: bool
    momentum: float = 0.99
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = x.shape[-1:]
        scale, bias = self.param("scale", nn.initializers.ones, shape), self.param("bias", nn.initializers.zeros, shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        if self.use_running_average:
            factor = scale * jax.lax.rsqrt(var.value + norm.EPSILON)
            return ((x - mean.value) * factor + bias).astype(self.dtype)
        y, *batch_stats = norm.batch_norm(x, scale, bias)
        if not self.is_initializing():
            for average, new in zip((mean, var), batch_stats):
                average.value = self.momentum * average.value + (1 - self.momentum) * new
        return y.astype(self.dtype)


class Dropout(nn.Module):
    """`flax.linen.Dropout`, whose rate may also be a traced array: each replica of a grid has its own."""

    rate: float | jax.Array

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if not train or (isinstance(self.rate, float) and self.rate == 0):
            return x
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, x.shape)
        return jnp.where(kept, x / (1 - self.rate), 0).astype(x.dtype)


def promote_all_but_bias(inputs: jax.Array, kernel: jax.Array, bias: jax.Array | None, dtype: jnp.dtype) -> tuple:
    """Casts inputs and kernel to `dtype`. A bias in float32 has a gradient that is summed in float32, without loss."""
    return *promote_dtype(inputs, kernel, dtype=dtype), bias


class Dense(nn.Dense):
    """`flax.linen.Dense`, with the bias added in float32."""

    promote_dtype: Callable = promote_all_but_bias

    def __call__(self, x: jax.Array) -> jax.Array:
        return super().__call__(x).astype(self.dtype)


class Conv(nn.Conv):
    """`flax.linen.Conv` by `ops.convolution`, with the bias added in float32."""

    conv_general_dilated: Callable = convolution.convolve
    promote_dtype: Callable = promote_all_but_bias

    def __call__(self, x: jax.Array) -> jax.Array:
        return super().__call__(x).astype(self.dtype)


class Parameters(nn.Module):
    """Parameters alone: a tree of (initialiser, shape) becomes the tree of their arrays."""

    tree: Mapping

    @nn.compact
    def __call__(self) -> dict:
        branch = lambda name, value: isinstance(value, Mapping) and Parameters(value, name=name)()
        return {name: branch(name, value) or self.param(name, *value) for name, value in self.tree.items()}


class Recurrent(nn.Module):
    """An LSTM or GRU over time: x_BTF to the outputs of all steps h_BTH. kernel_init: of the inputs' kernel."""

    features: int
    kernel_init: Callable
    dtype: jnp.dtype

    def __call__(self, x_BTF: jax.Array) -> jax.Array:
        return self.run(x_BTF, self.weights(x_BTF.shape[-1]))

    def run(self, x_BTF: jax.Array, weights: list[jax.Array]) -> jax.Array:
        return self.op(x_BTF.swapaxes(0, 1).astype(self.dtype), *weights).swapaxes(0, 1)

    @nn.compact
    def weights(self, inputs: int) -> list[jax.Array]:
        width = self.gates * self.features
        on_input = {"kernel": (self.kernel_init, (inputs, width)), "bias": (self.bias_init, (width,))}
        on_state = {name: (nn.initializers.zeros, (self.features,)) for name in self.biases}
        on_state["hidden"] = {"kernel": (orthogonal_gates, (self.features, width))}
        on_input, on_state = Parameters(on_input, name="input")(), Parameters(on_state, name="recurrent")()
        kernels = on_input["kernel"], on_input["bias"], on_state["hidden"]["kernel"]
        return [weight.astype(self.dtype) for weight in (*kernels, *map(on_state.get, self.biases))]


class LSTM(Recurrent):
    """Gates in the order input, forget, cell, output; the forget bias begins at 1 (Jozefowicz et al. 2015)."""

    op, gates, biases = staticmethod(recurrent.lstm), 4, ()

    def bias_init(self, key: jax.Array, shape: tuple[int]) -> jax.Array:
        return jnp.zeros(shape).at[self.features : 2 * self.features].set(1)


class GRU(Recurrent):
    """Gates in the order reset, update, new; the reset gate acts after the product, as in cuDNN (Cho et al. 2014)."""

    op, gates, biases = staticmethod(recurrent.gru), 3, ("new_bias",)
    bias_init = staticmethod(nn.initializers.zeros)


def orthogonal_gates(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Initialises a kernel [H, gates * H] with one orthogonal matrix for each gate."""
    keys, orthogonal = jax.random.split(key, shape[1] // shape[0]), initialiser("orthogonal")
    return jnp.concatenate([orthogonal(key, (shape[0], shape[0])) for key in keys], axis=1)


class Network(nn.Module):
    """What networks share. kernel_init: an initialiser of `flax.linen.initializers` by name."""

    dtype: jnp.dtype
    kernel_init: str

    def linear(self, units: int, **options) -> nn.Module:
        return Dense(units, **{"kernel_init": initialiser(self.kernel_init), "dtype": self.dtype} | options)

    def conv(self, filters: int, widths: tuple[int, ...], **options) -> nn.Module:
        return Conv(filters, widths, kernel_init=initialiser(self.kernel_init), dtype=self.dtype, **options)

    def recurrent_layer(self, cell: str, units: int) -> Recurrent:
        cells = {"lstm": LSTM, "gru": GRU}
        if cell not in cells:
            raise ValueError(f"there is no cell {cell!r}; cells: {', '.join(cells)}")
        return cells[cell](units, initialiser(self.kernel_init), self.dtype)

    def batch_norm(self, x: jax.Array, train: bool, momentum: float = 0.99) -> jax.Array:
        return BatchNorm(use_running_average=not train, momentum=momentum, dtype=self.dtype)(x)


class Logits(Network):
    """The last layer of a classifier: x [..., F] to float32 logits [..., classes]. bias: the first of each class."""

    bias: tuple[float, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        bias_init = nn.initializers.constant(jnp.array(self.bias))
        return self.linear(len(self.bias), bias_init=bias_init)(x).astype(jnp.float32)


class Classifier(Network):
    """A network that ends in `logits`. output_bias: the first bias of each class."""

    classes: int
    output_bias: tuple[float, ...]

    def logits(self, x: jax.Array, bias_scale: float = 1) -> jax.Array:
        return Logits(self.dtype, self.kernel_init, tuple(bias_scale * bias for bias in self.output_bias))(x)

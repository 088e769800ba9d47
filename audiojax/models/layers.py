"""Layers that several networks share."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.experimental.xla_metadata import set_xla_metadata

EPSILON = 1e-5  # added to variances
ACTIVATIONS = (  # of flax.linen, such as change no shape
    *("celu", "elu", "gelu", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "leaky_relu", "log_sigmoid"),
    *("log_softmax", "relu", "relu6", "selu", "sigmoid", "silu", "soft_sign", "softmax", "softplus", "swish", "tanh"),
)


def initialiser(name: str) -> Callable:
    """An initialiser of `flax.linen.initializers` by name, such as "glorot_uniform". Raises ValueError without one.

    Orthogonal kernels of replicas are made one by one: several at once JAX on CPU factorises in the threads that wait
    for it, which may never end.
    """
    if not hasattr(nn.initializers, name):
        raise ValueError(f"kernel_init={name!r} is no initialiser of flax.linen.initializers")
    init = getattr(nn.initializers, name)()
    if "orthogonal" not in name:
        return init
    return lambda key, shape, dtype=jnp.float32: one_by_one(lambda key: init(key, shape, dtype))(key)


def activation(name: str) -> Callable:
    """One of `ACTIVATIONS` by name. Raises ValueError for another name."""
    if name not in ACTIVATIONS:
        raise ValueError(f"there is no activation {name!r}; activations: {', '.join(ACTIVATIONS)}")
    return getattr(nn, name)


def standardise(x: jax.Array, train: bool, momentum: float = 0.99) -> jax.Array:
    """Features of the last axis to mean 0 and variance 1, by statistics of the batch in training, else of training.

    momentum: of the running statistics; a run of a few hundred steps needs less than the default.
    """
    norm = nn.BatchNorm(
        use_running_average=not train, momentum=momentum, use_bias=False, use_scale=False, name="standardise"
    )
    return norm(x)


class BatchNorm(nn.Module):
    """As `flax.linen.BatchNorm`, scaled and shifted, features last; its gradient passes fewer times over x on CPU."""

    use_running_average: bool
    momentum: float = 0.99
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        if self.use_running_average:
            by = scale * jax.lax.rsqrt(var.value + EPSILON)
            return ((x - mean.value) * by + bias).astype(self.dtype)
        y, batch_mean, batch_var = normalise(x, scale, bias)
        if not self.is_initializing():
            mean.value = self.momentum * mean.value + (1 - self.momentum) * batch_mean
            var.value = self.momentum * var.value + (1 - self.momentum) * batch_var
        return y.astype(self.dtype)


@jax.custom_vjp
def normalise(x: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Each feature of the last axis to a mean `bias` and a deviation `scale` over the others, at least in float32.

    Returns also the mean and the variance that it had, through which no gradient goes.
    """
    return _normalise_forward(x, scale, bias)[0]


def _normalise_forward(x, scale, bias):
    axes, exact = tuple(range(x.ndim - 1)), jnp.promote_types(x.dtype, jnp.float32)
    mean = x.mean(axes, exact)
    var = jnp.maximum(jnp.square(x.astype(exact)).mean(axes) - mean**2, 0)
    inverse = jax.lax.rsqrt(var + EPSILON)
    return ((x - mean) * (inverse * scale) + bias, mean, var), (x, scale, mean, inverse)


def _normalise_backward(saved, grads):
    x, scale, mean, inverse = saved
    axes, grad = tuple(range(x.ndim - 1)), grads[0]
    of_bias = grad.sum(axes)
    of_scale = (grad * (x - mean)).sum(axes) * inverse
    count = x.size // x.shape[-1]
    of_x = (grad - of_bias / count - (x - mean) * (inverse * of_scale / count)) * (inverse * scale)
    return of_x.astype(x.dtype), of_scale.astype(scale.dtype), of_bias.astype(scale.dtype)


normalise.defvjp(_normalise_forward, _normalise_backward)


class Dropout(nn.Module):
    """In training zeros in place of values, at a rate from 0 to below 1, and the others scaled up.

    As `flax.linen.Dropout`, but that the rate may also be traced: replicas of a grid each have their own.
    """

    rate: float | jax.Array

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if not train or (isinstance(self.rate, float) and self.rate == 0):
            return x
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, x.shape)
        return jnp.where(kept, x / (1 - self.rate), 0).astype(x.dtype)


def apart(function: Callable) -> Callable:
    """A function that XLA on CPU compiles by itself, so that what it returns is computed once.

    Else it computes anew what is no product wherever it is used, such as a gradient at each place of a pool's window;
    it drops `jax.lax.optimization_barrier` before it decides that.
    """

    def call(*args):
        if jax.default_backend() != "cpu":
            return function(*args)
        return set_xla_metadata(jax.jit(function)(*args), inlineable="false")

    return call


def one_by_one(function: Callable) -> Callable:
    """A function that `jax.vmap` calls for each element instead of batching it."""
    called = jax.custom_batching.custom_vmap(function)

    @called.def_vmap
    def over_axis(size: int, batched: list, *args):
        of = lambda n: jax.tree.map(lambda x, is_batched: x[n] if is_batched else x, args, tuple(batched))
        out = jax.tree.map(lambda *each: jnp.stack(each), *(function(*of(n)) for n in range(size)))
        return out, jax.tree.map(lambda _: True, out)

    return called


def half_but_bias(inputs: jax.Array, kernel: jax.Array, bias: jax.Array | None, dtype: jnp.dtype) -> tuple:
    """`promote_dtype` of a layer of flax.linen, which leaves the bias as it is: what it is added to becomes float32.

    So is its gradient, a sum over all places, of which half precision would lose most.
    """
    return *promote_dtype(inputs, kernel, dtype=dtype), bias


class Dense(nn.Dense):
    """`flax.linen.Dense`, the bias added in float32 at least."""

    promote_dtype: Callable = half_but_bias

    def __call__(self, x: jax.Array) -> jax.Array:
        return super().__call__(x).astype(self.dtype)


class Logits(nn.Module):
    """The last layer: x_BF to float32 logits [B, classes], with one initial bias a class."""

    classes: int
    kernel_init: Callable
    bias: tuple[float, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BF: jax.Array) -> jax.Array:
        bias_init = nn.initializers.constant(jnp.array(self.bias))
        dense = Dense(self.classes, kernel_init=self.kernel_init, bias_init=bias_init, dtype=self.dtype)
        return dense(x_BF).astype(jnp.float32)


def max_pool(x: jax.Array, *widths: int) -> jax.Array:
    """Maximum over windows along the axes after the first, without overlap; a remainder is dropped.

    widths: one for each of these axes but the last, or one for all: [B, T, F] to [B, T // width, F], [B, T, F, C] to
    [B, T // widths[0], F // widths[-1], C].

    A reshape, because the gradient of a windowed reduction is slow on CPU; with a gradient of its own: `greatest`.

    Raises:
      ValueError: x is narrower than a window.
    """
    axes = range(1, x.ndim - 1)
    for axis, width in zip(axes, widths * len(axes) if len(widths) == 1 else widths):
        if x.shape[axis] < width:
            raise ValueError(f"{x.shape[axis]} steps are left for a pool of {width}; take longer inputs or fewer pools")
        whole = jax.lax.slice_in_dim(x, 0, x.shape[axis] // width * width, axis=axis)
        x = greatest(whole.reshape(*x.shape[:axis], -1, width, *x.shape[axis + 1 :]), axis + 1)
    return x


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def greatest(x: jax.Array, axis: int) -> jax.Array:
    """`x.max(axis)`; the gradient goes to the first of equal values.

    JAX's own gradient asks which values equal the maximum. XLA computes what is pooled anew for that, rounds it
    otherwise where it fuses it otherwise, then finds none and drops the gradient: half of it in a 1D CNN.
    """
    return x.max(axis)


def _greatest_forward(x, axis):
    best = jax.lax.index_in_dim(x, 0, axis, keepdims=False)
    place = jnp.zeros(best.shape, jnp.int32)
    for number in range(1, x.shape[axis]):
        value = jax.lax.index_in_dim(x, number, axis, keepdims=False)
        best, place = jnp.maximum(best, value), jnp.where(value > best, number, place)
    return best, (place, x.shape[axis])


def _greatest_backward(axis, saved, grad):
    place, width = saved
    number = jnp.arange(width).reshape(-1, *[1] * (grad.ndim - axis))
    return (jnp.where(jnp.expand_dims(place, axis) == number, jnp.expand_dims(grad, axis), 0),)


greatest.defvjp(_greatest_forward, _greatest_backward)


def kernel_gradient(x: jax.Array, grad: jax.Array) -> jax.Array:
    """Gradient of a kernel [F, G] in x @ kernel, of x [..., F] and the product's gradient [..., G], as one product.

    In this order of factors: what JAX derives makes XLA transpose `grad`, the larger one, in memory. Over several axes,
    not over one flat one, of which a device would need the other devices' shards.
    """
    axes = tuple(range(x.ndim - 1))
    return jax.lax.dot_general(x, grad, ((axes, axes), ((), ())))

"""The networks of audiojax/models in Keras 3, on any of its back ends, with weights of ours.

`build` makes a model of a config's `model` section, for features x_BTF (or x_BTFC); its layers have the names that Flax
gives ours, by which `load` copies the variables. Keras reads its back end from KERAS_BACKEND as it is imported.
"""

import collections
import math

import keras
import numpy as np
from keras import layers, ops

CELLS = {"lstm": layers.LSTM, "gru": layers.GRU}


class Maker:
    """Makes layers named as Flax names those of a network: Dense_0, Dense_1, Conv_0, …"""

    def __init__(self):
        self.made = collections.Counter()

    def __call__(self, kind: str, layer: type[layers.Layer], *sizes, **options) -> layers.Layer:
        self.made[kind] += 1
        return layer(*sizes, name=f"{kind}_{self.made[kind] - 1}", **options)

    def dense(self, units: int, **options) -> layers.Layer:
        return self("Dense", layers.Dense, units, **options)

    def logits(self, classes: int) -> layers.Layer:
        return self("Logits", layers.Dense, classes)

    def conv(self, axes: int, filters: int, kernel: int, **options) -> layers.Layer:
        return self("Conv", (layers.Conv1D, layers.Conv2D)[axes - 1], filters, kernel, **options)

    def norm(self, momentum: float = 0.99) -> layers.Layer:
        return self("BatchNorm", layers.BatchNormalization, epsilon=1e-5, momentum=momentum)

    def recurrent(self, cell: str, units: int) -> layers.Layer:
        layer = CELLS[cell]
        return self(layer.__name__, layer, units, return_sequences=True)

    def bidirectional(self, cell: str, units: int) -> layers.Layer:
        return self("Bidirectional", layers.Bidirectional, CELLS[cell](units, return_sequences=True))


def build(model: dict, shape: tuple[int, ...], classes: int) -> keras.Model:
    """The twin of `audiojax.models.NAME.Model` for features of `shape`, (T, F) or (T, F, C)."""
    networks = {"mlp": mlp, "lstm": lstm, "cnn1d": cnn1d, "gcnn": gcnn, "attention": attention, "cnn": cnn}
    networks["autoencoder"] = autoencoder
    if model["name"] not in networks:
        raise ValueError(f"there is no twin of model {model['name']!r}")
    x = keras.Input(shape)
    return keras.Model(x, networks[model["name"]](x, dict(model), classes, Maker()))


def standardise(x, momentum: float = 0.99):
    norm = layers.BatchNormalization(center=False, scale=False, epsilon=1e-5, momentum=momentum, name="standardise")
    return norm(x)


def mlp(x, model: dict, classes: int, make: Maker):
    x = layers.Flatten()(standardise(x) if model["standardise"] else x)
    x = layers.Dropout(model["input_dropout"])(x)
    for units in model["hidden"]:
        x = layers.Dropout(model["dropout"])(ops.relu(make.dense(units)(x)))
    return make.logits(classes)(x)


def lstm(x, model: dict, classes: int, make: Maker):
    x = layers.Dropout(model["input_dropout"])(standardise(x) if model["standardise"] else x)
    for units in model["lstm"]:
        x = layers.Dropout(model["lstm_dropout"])(make.recurrent("lstm", units)(x))
    x = layers.Flatten()(x)
    for units in model["dense"]:
        x = layers.Dropout(model["dense_dropout"])(ops.relu(make.dense(units)(x)))
    return make.logits(classes)(x)


def cnn1d(x, model: dict, classes: int, make: Maker):
    leaky_relu = lambda x: ops.leaky_relu(x, model["negative_slope"])
    for filters in model["filters"]:
        x = leaky_relu(make.conv(1, filters, model["kernel"])(x))
    x = layers.MaxPooling1D(model["pool"])(x) if model["pool"] > 1 else x
    x = layers.Dropout(model["dropout"])(x)
    x = ops.mean(x, 1) if model["head"] == "average" else layers.Flatten()(x)
    for units in model["dense"]:
        x = leaky_relu(make.dense(units)(x))
    return make.logits(classes)(x)


def gcnn(x, model: dict, classes: int, make: Maker):
    drop = lambda x: layers.Dropout(model["dropout"])(x)
    convolution = lambda x, filters: make.norm()(
        make.conv(2, filters, model["kernel"], padding="same", use_bias=False)(x)
    )
    x = ops.expand_dims(standardise(x) if model["standardise"] else x, -1)
    for filters in model["gated"]:
        linear, gate = ops.split(convolution(x, filters), 2, axis=-1)
        x = drop(linear * ops.sigmoid(gate))
    for filters, pool in zip(model["filters"], model["pools"]):
        x = drop(layers.MaxPooling2D((pool, 1))(ops.relu(convolution(x, filters))))
    x = ops.transpose(ops.squeeze(x, 1), (0, 2, 1))
    for units in model["recurrent"]:
        x = drop(make.bidirectional(model["cell"], units)(x))
    gate = ops.sigmoid(make.dense(classes)(x))
    return ops.mean(make.logits(classes)(x) * gate, 1)


def attention(x, model: dict, classes: int, make: Maker):
    drop = lambda x: layers.Dropout(model["dropout"])(x)
    dense = lambda x, units: drop(ops.relu(make.norm()(make.dense(units, use_bias=False)(x))))
    inputs = standardise(x) if model["standardise"] else x
    x = layers.Dropout(model["input_dropout"])(inputs)
    pooled = []
    for level, units in enumerate(model["hidden"], 1):
        x = dense(x, units)
        if level in model["levels"]:
            weights = {"feature": units, "heads": model["heads"], "decision": classes}[model["pooling"]]
            weight = ops.softmax(make.dense(weights)(x), axis=1)
            match model["pooling"]:
                case "feature":
                    pooled.append(ops.sum(weight * ops.relu(make.dense(units)(x)), 1))
                case "heads":
                    pooled.append(layers.Flatten()(ops.matmul(ops.transpose(weight, (0, 2, 1)), x)))
                case "decision":
                    pooled.append(ops.sum(weight * ops.sigmoid(make.logits(classes)(x)), 1))
    if model["pooling"] == "decision":
        share = ops.clip(sum(pooled) / len(pooled), 1e-6, 1 - 1e-6)
        return ops.log(share) - ops.log1p(-share)
    if model["statistics"]:
        pooled += [ops.mean(inputs, 1), ops.std(inputs, 1), ops.max(inputs, 1), ops.min(inputs, 1)]
    x = drop(ops.concatenate(pooled, -1))
    for units in model["dense"]:
        x = dense(x, units)
    return make.logits(classes)(x)


def cnn(x, model: dict, classes: int, make: Maker):
    activate = lambda x, name="relu": activation_of(name)(make.norm(momentum=0.9)(x))
    for name, *numbers in model["stages"]:
        axes = len(x.shape) - 2
        match name, numbers:
            case "standardise", []:
                x = standardise(x, momentum=0.9)
            case "image", []:
                x = ops.expand_dims(x, -1)
            case "sequence", []:
                x = layers.Reshape((x.shape[1], -1))(x)
            case "conv", [filters, kernel, stride, *activation]:
                convolution = make.conv(axes, filters, kernel, strides=stride, padding="same", use_bias=False)
                x = activate(convolution(x), *activation)
            case "pool", [width]:
                x = (layers.MaxPooling1D, layers.MaxPooling2D)[axes - 1](width)(x)
            case "recurrent", [units]:
                x = make.recurrent(model["cell"], units)(x)
            case "dropout", [rate]:
                x = layers.Dropout(rate)(x)
            case "last", []:
                x = x[:, -1]
            case "average", []:
                x = ops.mean(x, tuple(range(1, axes + 1)))
            case "dense", [units, *activation]:
                x = activate(make.dense(units, use_bias=False)(layers.Flatten()(x)), *activation)
            case _:
                raise ValueError(f"there is no twin of stage {(name, *numbers)}")
    return make.logits(classes)(layers.Flatten()(x))


def activation_of(name: str):
    """A function of `keras.ops`; a leaky ReLU with Flax's slope."""
    return (lambda x: ops.leaky_relu(x, 0.01)) if name == "leaky_relu" else getattr(ops, name)


def autoencoder(x, model: dict, classes: int, make: Maker):
    activate = lambda x: ops.leaky_relu(make.norm(momentum=0.9)(x), 0.01)
    outer = []
    for filters in model["filters"]:
        outer.append(x.shape[1:])
        x = activate(make.conv(2, filters, 3, strides=2, padding="same", use_bias=False)(x))
    inner = x.shape[1:]
    latent = make.dense(model["latent"])(layers.Flatten()(x))
    x = layers.Reshape(inner)(activate(make.dense(math.prod(inner), use_bias=False)(latent)))
    for number, (height, width, channels) in enumerate(reversed(outer), 1):
        last = number == len(outer)
        x = make.conv(2, 4 * channels, 3, padding="same", use_bias=last)(x)
        _, rows, columns, _ = x.shape
        x = ops.transpose(ops.reshape(x, (-1, rows, columns, 2, 2, channels)), (0, 1, 3, 2, 4, 5))
        x = ops.reshape(x, (-1, 2 * rows, 2 * columns, channels))[:, :height, :width]
        x = x if last else activate(x)
    return latent, x


def prepare(model: keras.Model, loss: str, lr: float) -> keras.Model:
    """The model, compiled to be trained by Adam; of an autoencoder its reconstruction.

    loss: "sigmoid_cross_entropy", summed over the classes, "softmax_cross_entropy", or, of an autoencoder,
    "mean_squared_error".
    """
    if loss == "mean_squared_error":
        model = keras.Model(model.input, model.output[1])
    mean_of = {
        "sigmoid_cross_entropy": lambda label, logits: ops.sum(
            ops.binary_crossentropy(label, logits, from_logits=True), -1
        ),
        "softmax_cross_entropy": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "mean_squared_error": keras.losses.MeanSquaredError(),
    }[loss]
    model.compile(keras.optimizers.Adam(lr), mean_of)
    return model


def load(model: keras.Model, params: dict, batch_stats: dict) -> None:
    """Copies the Flax network's variables into its twin."""
    for layer in model.layers:
        own = params.get(layer.name, {})
        match layer:
            case layers.BatchNormalization():
                stats = batch_stats[layer.name]
                layer.set_weights([own[key] for key in ("scale", "bias") if key in own] + [stats["mean"], stats["var"]])
            case layers.Dense() | layers.Conv1D() | layers.Conv2D():
                own = own.get("Dense_0", own)  # of the logits
                layer.set_weights([own[key] for key in ("kernel", "bias") if key in own])
            case layers.Bidirectional():
                kind = type(layer.forward_layer).__name__
                load_recurrent(layer.forward_layer, own[f"{kind}_0"])
                load_recurrent(layer.backward_layer, own[f"{kind}_1"])
            case layers.LSTM() | layers.GRU():
                load_recurrent(layer, own)


def load_recurrent(layer: layers.LSTM | layers.GRU, own: dict) -> None:
    weights = [own["input"]["kernel"], own["recurrent"]["hidden"]["kernel"], own["input"]["bias"]]
    if isinstance(layer, layers.GRU):  # Keras has the update gate before the reset gate, and a second bias.
        new_bias = own["recurrent"]["new_bias"]
        weights = [update_first(w) for w in weights]
        weights[2] = np.stack([weights[2], np.concatenate([np.zeros(2 * len(new_bias), np.float32), new_bias])])
    layer.set_weights(weights)


def update_first(gates: np.ndarray) -> np.ndarray:
    reset, update, new = np.split(np.asarray(gates), 3, axis=-1)
    return np.concatenate([update, reset, new], axis=-1)

"""The networks of audiojax/models in PyTorch, channels first as PyTorch has them, with weights of ours.

`build` makes a module from a config's `model` section, on the same features x_BTF (or x_BTFC); `load` gives it the
variables of the Flax network. A dense layer behind convolutions meets its inputs in PyTorch's order, channels before
time, and gets its weights reordered.
"""

import math

import numpy as np
import torch
from torch import nn

MOMENTUM = 0.01  # of new batch statistics, in PyTorch's sense: Flax's 0.99; `cnn` has 0.9 and PyTorch's default


class Recurrent(nn.Module):
    """Every output of one recurrent layer, of x_BTF or, `channels_first`, of x_BFT."""

    def __init__(self, cell: str, features: int, units: int, channels_first: bool, bidirectional: bool = False):
        super().__init__()
        make = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.layer = make(features, units, batch_first=True, bidirectional=bidirectional)
        self.channels_first = channels_first

    def forward(self, x):
        return self.layer(x.transpose(1, 2))[0].transpose(1, 2) if self.channels_first else self.layer(x)[0]


class Axes(nn.Module):
    """A function of a tensor that has no weights, such as a change of its axes."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class GatedLogits(nn.Module):
    """The mean over the steps of x_BTF of logits, each times its gate."""

    def __init__(self, features: int, classes: int):
        super().__init__()
        self.gate, self.logits = dense(features, classes), logits(features, classes)

    def forward(self, x_BTF):
        return (self.logits(x_BTF) * torch.sigmoid(self.gate(x_BTF))).mean(1)


class Attention(nn.Module):
    """`audiojax.models.attention`, on x_BTF."""

    def __init__(self, features: int, model: dict, classes: int):
        super().__init__()
        self.pooling, self.statistics = model["pooling"], model["statistics"]
        self.standardise = nn.BatchNorm1d(features, affine=False, momentum=MOMENTUM) if model["standardise"] else None
        self.input_dropout, self.dropout = nn.Dropout(model["input_dropout"]), nn.Dropout(model["dropout"])
        self.hidden, self.weights, self.values = nn.ModuleList(), nn.ModuleDict(), nn.ModuleDict()
        pooled, inputs = 0, features
        for level, units in enumerate(model["hidden"], 1):
            self.hidden.append(normal_dense(features, units))
            features = units
            if level in model["levels"]:
                weights = {"feature": units, "heads": model["heads"], "decision": classes}[self.pooling]
                self.weights[str(level)] = dense(units, weights)
                if self.pooling != "heads":
                    self.values[str(level)] = (logits if self.pooling == "decision" else dense)(units, weights)
                pooled += units * max(model["heads"], 1)
        features = pooled + 4 * inputs * self.statistics
        self.dense = nn.ModuleList()
        for units in model["dense"]:
            self.dense.append(normal_dense(features, units))
            features = units
        self.logits = None if self.pooling == "decision" else logits(features, classes)

    def forward(self, x_BTF):
        normal = lambda norm, x: norm(x.transpose(1, 2)).transpose(1, 2)
        inputs = normal(self.standardise, x_BTF) if self.standardise else x_BTF
        x, pooled = self.input_dropout(inputs), []
        for level, (dense, norm) in enumerate(self.hidden, 1):
            x = self.dropout(torch.relu(normal(norm, dense(x))))
            if str(level) in self.weights:
                weight = torch.softmax(self.weights[str(level)](x), 1)
                if self.pooling == "heads":
                    pooled.append((weight.transpose(1, 2) @ x).flatten(1))
                else:
                    values = self.values[str(level)](x)
                    values = torch.sigmoid(values) if self.pooling == "decision" else torch.relu(values)
                    pooled.append((weight * values).sum(1))
        if self.pooling == "decision":
            share = (sum(pooled) / len(pooled)).clamp(1e-6, 1 - 1e-6)
            return torch.log(share) - torch.log1p(-share)
        if self.statistics:
            pooled += [inputs.mean(1), inputs.std(1, correction=0), inputs.amax(1), inputs.amin(1)]
        x = self.dropout(torch.cat(pooled, -1))
        for dense, norm in self.dense:
            x = self.dropout(torch.relu(norm(dense(x))))
        return self.logits(x)

    def in_order(self):
        """Layers with variables, in the order of the Flax network."""
        if self.standardise:
            yield self.standardise
        for level, (dense, norm) in enumerate(self.hidden, 1):
            yield from (dense, norm)
            for layers in (self.weights, self.values):
                if str(level) in layers:
                    yield layers[str(level)]
        for dense, norm in self.dense:
            yield from (dense, norm)
        if self.logits:
            yield self.logits


def doubled(x):
    """Four channels as 2 × 2 pixels, the pixel before the channel: [B, 4 C, H, W] to [B, C, 2 H, 2 W]."""
    return x.unflatten(1, (2, 2, -1)).permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)


class Autoencoder(nn.Module):
    """`audiojax.models.autoencoder`, on x_BHWC: latent and reconstruction."""

    def __init__(self, model: dict, shape: tuple[int, ...]):
        super().__init__()
        channels, sizes, outer = shape[-1], list(shape[:-1]), []
        down, up = [], []
        for filters in model["filters"]:
            outer.append((*sizes, channels))
            down += [*convolution(channels, filters, 3, 2, sizes), nn.BatchNorm2d(filters), nn.LeakyReLU(0.01)]
            channels, sizes = filters, [-(-size // 2) for size in sizes]
        self.inner = (*sizes, channels)
        self.down = nn.Sequential(*down, nn.Flatten())
        self.latent = dense(math.prod(self.inner), model["latent"], flattened=self.inner)
        self.grow = nn.Sequential(
            dense(model["latent"], math.prod(self.inner), bias=False), nn.BatchNorm1d(math.prod(self.inner))
        )
        for number, (height, width, wanted) in enumerate(reversed(outer), 1):
            last = number == len(outer)
            up += [nn.Conv2d(channels, 4 * wanted, 3, padding=1, bias=last), Axes(doubled)]
            up.append(Axes(lambda x, height=height, width=width: x[:, :, :height, :width]))
            up += [] if last else [nn.BatchNorm2d(wanted), nn.LeakyReLU(0.01)]
            channels = wanted
        self.up = nn.Sequential(*up)

    def forward(self, x):
        latent = self.latent(self.down(x.movedim(-1, 1)))
        x = nn.functional.leaky_relu(self.grow(latent), 0.01).unflatten(1, self.inner).movedim(-1, 1)
        return latent, self.up(x).movedim(1, -1)


ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "selu": nn.SELU}  # a leaky ReLU's slope is 0.01 in both


def build(model: dict, shape: tuple[int, ...], classes: int) -> nn.Module:
    """The twin of `audiojax.models.NAME.Model` for features of `shape`, (T, F) or (T, F, C)."""
    model = dict(model)
    match model["name"]:
        case "mlp":
            return mlp(model, shape, classes)
        case "lstm":
            return lstm(model, shape, classes)
        case "cnn1d":
            return cnn1d(model, shape, classes)
        case "gcnn":
            return gcnn(model, shape, classes)
        case "attention":
            return Attention(shape[-1], model, classes)
        case "cnn":
            return cnn(model, shape, classes)
        case "autoencoder":
            return Autoencoder(model, shape)
    raise ValueError(f"there is no twin of model {model['name']!r}")


def mlp(model: dict, shape: tuple[int, ...], classes: int) -> nn.Module:
    features = math.prod(shape)
    layers = [*standardised(model, shape[-1]), nn.Flatten(), nn.Dropout(model["input_dropout"])]
    for units in model["hidden"]:
        layers += [dense(features, units), nn.ReLU(), nn.Dropout(model["dropout"])]
        features = units
    return nn.Sequential(*layers, logits(features, classes))


def swapped(x):
    """x_BTF as x_BFT, or back."""
    return x.transpose(1, 2)


def standardised(model: dict, features: int) -> list[nn.Module]:
    if not model["standardise"]:
        return []
    return [Axes(swapped), nn.BatchNorm1d(features, affine=False, momentum=MOMENTUM), Axes(swapped)]


def dense(features: int, units: int, bias: bool = True, flattened: tuple[int, ...] | None = None) -> nn.Linear:
    """A dense layer that remembers what its inputs were before they were flattened: (T, C) or (T, F, C)."""
    layer = nn.Linear(features, units, bias=bias)
    layer.flattened, layer.kind = flattened, "Dense"
    return layer


def normal_dense(features: int, units: int) -> nn.ModuleList:
    return nn.ModuleList([dense(features, units, bias=False), nn.BatchNorm1d(units, momentum=MOMENTUM)])


def logits(features: int, classes: int, flattened: tuple[int, ...] | None = None) -> nn.Linear:
    layer = dense(features, classes, flattened=flattened)
    layer.kind = "Logits"
    return layer


def lstm(model: dict, shape: tuple[int, ...], classes: int) -> nn.Module:
    steps, features = shape
    layers = [*standardised(model, features), nn.Dropout(model["input_dropout"])]
    for units in model["lstm"]:
        layers += [Recurrent("lstm", features, units, channels_first=False), nn.Dropout(model["lstm_dropout"])]
        features = units
    layers.append(nn.Flatten())
    features *= steps
    for units in model["dense"]:
        layers += [dense(features, units), nn.ReLU(), nn.Dropout(model["dense_dropout"])]
        features = units
    return nn.Sequential(*layers, logits(features, classes))


def cnn1d(model: dict, shape: tuple[int, ...], classes: int) -> nn.Module:
    steps, channels = shape
    layers = [Axes(swapped)]
    for filters in model["filters"]:
        layers += [nn.Conv1d(channels, filters, model["kernel"]), nn.LeakyReLU(model["negative_slope"])]
        channels, steps = filters, steps - model["kernel"] + 1
    if model["pool"] > 1:
        layers.append(nn.MaxPool1d(model["pool"]))
        steps //= model["pool"]
    layers.append(nn.Dropout(model["dropout"]))
    average = model["head"] == "average"
    layers.append(Axes(lambda x: x.mean(2)) if average else nn.Flatten())
    features = channels if average else channels * steps
    flattened = None if average else (steps, channels)
    for units in model["dense"]:
        layers += [dense(features, units, flattened=flattened), nn.LeakyReLU(model["negative_slope"])]
        features, flattened = units, None
    return nn.Sequential(*layers, logits(features, classes, flattened))


def gcnn(model: dict, shape: tuple[int, ...], classes: int) -> nn.Module:
    sizes, channels = list(shape), 1
    layers = [*standardised(model, shape[1]), Axes(lambda x: x[:, None])]
    for filters in model["gated"]:
        layers += convolution(channels, filters, model["kernel"], 1, sizes)
        layers += [nn.BatchNorm2d(filters, momentum=MOMENTUM), nn.GLU(1), nn.Dropout(model["dropout"])]
        channels = filters // 2
    for filters, pool in zip(model["filters"], model["pools"]):
        layers += convolution(channels, filters, model["kernel"], 1, sizes)
        layers += [
            nn.BatchNorm2d(filters, momentum=MOMENTUM),
            nn.ReLU(),
            nn.MaxPool2d((pool, 1)),
            nn.Dropout(model["dropout"]),
        ]
        channels, sizes = filters, [sizes[0] // pool, sizes[1]]
    layers.append(Axes(lambda x: x[:, :, 0]))
    channels = sizes[1]
    for units in model["recurrent"]:
        layers += [Recurrent(model["cell"], channels, units, False, bidirectional=True), nn.Dropout(model["dropout"])]
        channels = 2 * units
    return nn.Sequential(*layers, GatedLogits(channels, classes))


def cnn(model: dict, shape: tuple[int, ...], classes: int) -> nn.Module:
    """A list of stages; `sizes` follows the axes between the batch and the channels, empty once they are gone."""
    layers, sizes, channels = [Axes(lambda x: x.movedim(-1, 1))], list(shape[:-1]), shape[-1]
    flattened = None

    def flatten():
        nonlocal sizes, channels, flattened
        if sizes:
            layers.append(nn.Flatten())
            flattened, channels, sizes = (*sizes, channels), channels * math.prod(sizes), []

    for name, *numbers in model["stages"]:
        kind = len(sizes) - 1
        match name, numbers:
            case "standardise", []:
                layers.append((nn.BatchNorm1d, nn.BatchNorm2d)[kind](channels, affine=False))
            case "image", []:
                layers.append(Axes(lambda x: x.transpose(1, 2)[:, None]))
                sizes, channels = [*sizes, channels], 1
            case "sequence", []:
                layers.append(Axes(lambda x: x.permute(0, 3, 1, 2).flatten(1, 2)))
                sizes, channels = sizes[:1], channels * sizes[1]
            case "conv", [filters, kernel, stride, *activation]:
                layers += convolution(channels, filters, kernel, stride, sizes)
                layers += [(nn.BatchNorm1d, nn.BatchNorm2d)[kind](filters), ACTIVATIONS[(*activation, "relu")[0]]()]
                sizes, channels = [-(-size // stride) for size in sizes], filters
            case "pool", [width]:
                layers.append((nn.MaxPool1d, nn.MaxPool2d)[kind](width))
                sizes = [size // width for size in sizes]
            case "recurrent", [units]:
                layers.append(Recurrent(model["cell"], channels, units, channels_first=True))
                channels = units
            case "dropout", [rate]:
                layers.append(nn.Dropout(rate))
            case "last", []:
                layers.append(Axes(lambda x: x[:, :, -1]))
                sizes = []
            case "average", []:
                layers.append(Axes(lambda x: x.flatten(2).mean(2)))
                sizes = []
            case "dense", [units, *activation]:
                flatten()
                layers += [dense(channels, units, False, flattened), nn.BatchNorm1d(units)]
                layers.append(ACTIVATIONS[(*activation, "relu")[0]]())
                channels, flattened = units, None
            case _:
                raise ValueError(f"there is no twin of stage {(name, *numbers)}")
    flatten()
    return nn.Sequential(*layers, logits(channels, classes, flattened))


def convolution(channels: int, filters: int, kernel: int, stride: int, sizes: list[int]) -> list[nn.Module]:
    """A convolution padded as "SAME": to ceil(size / stride), the odd zero at the end."""
    totals = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in sizes]
    make = (nn.Conv1d, nn.Conv2d)[len(sizes) - 1]
    if all(total == kernel - 1 and total % 2 == 0 for total in totals):
        return [make(channels, filters, kernel, stride, padding=kernel // 2, bias=False)]
    pads = [side for total in reversed(totals) for side in (total // 2, total - total // 2)]
    padded = [(nn.ConstantPad1d, nn.ConstantPad2d)[len(sizes) - 1](tuple(pads), 0.0)] if any(pads) else []
    return [*padded, make(channels, filters, kernel, stride, bias=False)]


def device() -> str:
    """The GPU where there is one, whose products then may round as JAX's do there, to TensorFloat-32."""
    if not torch.cuda.is_available():
        return "cpu"
    torch.set_float32_matmul_precision("high")
    return "cuda"


def trainer(network: nn.Module, loss: str, lr: float):
    """A function of (features, labels), tensors, that trains the network by a step of Adam.

    loss: "sigmoid_cross_entropy", summed over the classes, "softmax_cross_entropy", or, of an autoencoder,
    "mean_squared_error", whose label is what is to be reconstructed.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr)
    mean_of = {
        "sigmoid_cross_entropy": lambda logits, label: (
            nn.functional.binary_cross_entropy_with_logits(logits, label, reduction="sum") / len(label)
        ),
        "softmax_cross_entropy": nn.functional.cross_entropy,
        "mean_squared_error": lambda outputs, x: nn.functional.mse_loss(outputs[1], x),
    }[loss]

    def step(x: torch.Tensor, label: torch.Tensor) -> None:
        mean = mean_of(network(x), label)
        optimiser.zero_grad()
        mean.backward()
        optimiser.step()

    return step


def load(module: nn.Module, params: dict, batch_stats: dict) -> None:
    """Copies the Flax network's variables into its twin, layer after layer of each kind."""
    number = lambda name: int(name.rsplit("_", 1)[1])
    kinds = ("Conv", "Dense", "Logits", "BatchNorm", "LSTM", "GRU", "Bidirectional")
    names = {kind: iter(sorted((n for n in params if n.startswith(kind)), key=number)) for kind in kinds}
    with torch.no_grad():
        for layer in module.in_order() if isinstance(module, Attention) else module.modules():
            match layer:
                case nn.Conv1d() | nn.Conv2d():
                    own = params[next(names["Conv"])]
                    copy(layer.weight, np.moveaxis(np.asarray(own["kernel"]), (-1, -2), (0, 1)))
                    if layer.bias is not None:
                        copy(layer.bias, own["bias"])
                case nn.Linear():
                    own = params[next(names[layer.kind])]
                    load_dense(layer, own["Dense_0"] if layer.kind == "Logits" else own)
                case nn.LSTM() | nn.GRU():
                    name = type(layer).__name__
                    if layer.bidirectional:
                        both = params[next(names["Bidirectional"])]
                        load_recurrent(layer, both[f"{name}_0"], "_l0")
                        load_recurrent(layer, both[f"{name}_1"], "_l0_reverse")
                    else:
                        load_recurrent(layer, params[next(names[name])], "_l0")
                case nn.BatchNorm1d() | nn.BatchNorm2d():
                    name = next(names["BatchNorm"]) if layer.affine else "standardise"
                    if layer.affine:
                        copy(layer.weight, params[name]["scale"])
                        copy(layer.bias, params[name]["bias"])
                    copy(layer.running_mean, batch_stats[name]["mean"])
                    copy(layer.running_var, batch_stats[name]["var"])


def copy(tensor: torch.Tensor, values) -> None:
    """Raises RuntimeError where the shapes differ."""
    values = torch.from_numpy(np.array(values))
    if tensor.shape != values.shape:
        raise RuntimeError(f"a weight of {tuple(tensor.shape)} cannot take {tuple(values.shape)}")
    tensor.copy_(values)


def load_dense(layer: nn.Linear, own: dict) -> None:
    kernel = np.asarray(own["kernel"])
    if shape := layer.flattened:
        kernel = np.moveaxis(kernel.reshape(*shape, -1), len(shape) - 1, 0).reshape(kernel.shape)
    copy(layer.weight, kernel.T)
    if layer.bias is not None:
        copy(layer.bias, own["bias"])


def load_recurrent(layer: nn.LSTM | nn.GRU, own: dict, suffix: str) -> None:
    """suffix: of the weights of one direction."""
    weight = lambda name: getattr(layer, name + suffix)
    copy(weight("weight_ih"), np.asarray(own["input"]["kernel"]).T)
    copy(weight("bias_ih"), own["input"]["bias"])
    copy(weight("weight_hh"), np.asarray(own["recurrent"]["hidden"]["kernel"]).T)
    weight("bias_hh").zero_()
    if "new_bias" in own["recurrent"]:
        copy(weight("bias_hh")[2 * layer.hidden_size :], own["recurrent"]["new_bias"])

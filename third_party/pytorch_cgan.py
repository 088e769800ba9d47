"""The conditional GANs of audiojax/models/cgan.py in PyTorch, with weights of ours: those of the Wang study, which have
one-hot labels and neither spectral normalisation nor a projection."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from third_party.pytorch import copy


class Generator(nn.Module):
    """Noise [B, L] and one-hot labels [B, K] to x_BFT."""

    def __init__(self, model: dict, shape: tuple[int, int], classes: int):
        super().__init__()
        units, steps = model["latent"] + classes, [shape[0]]
        for stage in reversed([stage for stage in model["generator_stages"] if stage[0] == "conv"]):
            steps.insert(0, -(-steps[0] // stage[-1]))
        self.shape, self.layers, self.sizes, self.sigmoid = shape, nn.ModuleList(), [], model["sigmoid"]
        for name, *numbers in model["generator_stages"]:
            match name, numbers:
                case "dense", [wanted]:
                    self.layers.append(nn.Linear(units, wanted))
                    self.sizes.append(None)
                    units = wanted
                case "steps", [filters]:
                    self.layers.append(nn.Linear(units, steps[0] * filters))
                    self.sizes.append((steps.pop(0), filters))
                    units = filters
                case "conv", [*filters, width, stride]:
                    wanted = filters[0] if filters else shape[1]
                    padding = width // 2 * stride
                    self.layers.append(nn.ConvTranspose1d(units, wanted, width * stride, stride, padding))
                    self.sizes.append(steps.pop(0))
                    units = wanted
        if len(model["generator_stages"][-1]) != 3:  # The last layer is dense.
            self.layers.append(nn.Linear(units, math.prod(shape)))
            self.sizes.append((shape[0], shape[1]))

    def forward(self, noise_BL, label_BK):
        x = torch.cat([noise_BL, label_BK], -1)
        for number, (layer, size) in enumerate(zip(self.layers, self.sizes), 1):
            x = layer(x)
            if isinstance(layer, nn.ConvTranspose1d):
                x = x[..., :size]
            elif size:
                x = x.unflatten(1, size).transpose(1, 2)
            x = x if number == len(self.layers) else torch.relu(x)
        return torch.sigmoid(x) if self.sigmoid else x


class Discriminator(nn.Module):
    """x_BFT and one-hot labels [B, K] to logits [B]."""

    def __init__(self, model: dict, shape: tuple[int, int], classes: int):
        super().__init__()
        steps, channels, self.sigmoid = shape[0], shape[1], model["sigmoid"]
        self.layers, self.pads, self.label = nn.ModuleList(), [], None
        for name, *numbers in model["discriminator_stages"]:
            match name, numbers:
                case "dense", [wanted]:
                    self.layers.append(nn.Linear(steps * channels, wanted))
                    self.pads.append(None)
                    steps, channels = 1, wanted
                case "conv", [wanted, width, stride]:
                    left = -(-steps // stride)
                    missing = max((left - 1) * stride + width - steps, 0)
                    self.layers.append(nn.Conv1d(channels, wanted, width, stride))
                    self.pads.append((missing // 2, missing - missing // 2))
                    steps, channels = left, wanted
            self.label = self.label or nn.Linear(classes, wanted, bias=False)
        self.last = nn.Linear(steps * channels, 1)

    def forward(self, x, label_BK):
        for number, (layer, pad) in enumerate(zip(self.layers, self.pads)):
            flat = pad is None and x.ndim == 3
            x = layer(x.transpose(1, 2).flatten(1) if flat else functional.pad(x, pad) if pad else x)
            if number == 0:
                label = self.label(label_BK)
                x = x + (label if x.ndim == 2 else label[..., None])
            x = functional.leaky_relu(x, 0.2)
        logit_B = self.last(x.transpose(1, 2).flatten(1) if x.ndim == 3 else x)[:, 0]
        return torch.sigmoid(logit_B) if self.sigmoid else logit_B


def build(model: dict, shape: tuple[int, int], classes: int) -> tuple[Generator, Discriminator]:
    """The twins of `audiojax.models.cgan.Model` for features of `shape` (T, F)."""
    beyond = ("normalise", "spectral", "projection")
    if model["label"] != "one_hot" or any(model[name] for name in beyond):
        raise ValueError(f"the twin has one-hot labels and none of {', '.join(beyond)}")
    return Generator(model, shape, classes), Discriminator(model, shape, classes)


def load(generator: Generator, discriminator: Discriminator, params: dict) -> None:
    """Copies the Flax network's parameters into its twins."""
    with torch.no_grad():
        load_layers(generator.layers, params["generator"])
        own = dict(params["discriminator"])
        dense = sorted((name for name in own if name.startswith("Dense")), key=lambda name: int(name.split("_")[1]))
        # The label's map is made right after the first layer.
        place = 1 if isinstance(discriminator.layers[0], nn.Linear) else 0
        copy(discriminator.label.weight, np.asarray(own.pop(dense.pop(place))["kernel"]).T)
        load_layers([*discriminator.layers, discriminator.last], own)


def load_layers(layers, params: dict) -> None:
    """Copies parameters into layers, each kind in the order of its numbers."""
    number = lambda name: int(name.split("_")[1])
    names = {kind: iter(sorted((n for n in params if n.startswith(kind)), key=number)) for kind in ("Dense", "Conv")}
    names["TransposedConv"] = iter(sorted((n for n in params if n.startswith("TransposedConv")), key=number))
    for layer in layers:
        match layer:
            case nn.Linear():
                own = params[next(names["Dense"])]
                copy(layer.weight, np.asarray(own["kernel"]).T)
            case nn.Conv1d():
                own = params[next(names["Conv"])]
                copy(layer.weight, np.asarray(own["kernel"]).transpose(2, 1, 0))
            case nn.ConvTranspose1d():
                own = params[next(names["TransposedConv"])]
                kernel = np.asarray(own["Conv_0"]["kernel"])  # [width, C, stride * F], its last step met first
                width, channels, _ = kernel.shape
                taps = kernel.reshape(width, channels, layer.stride[0], -1)[::-1]
                copy(layer.weight, taps.transpose(1, 3, 0, 2).reshape(channels, -1, width * layer.stride[0]))
        copy(layer.bias, own["bias"])


def trainer(generator: Generator, discriminator: Discriminator, latent: int, lr: float):
    """A function of features x_BTF and labels [B] that trains both by a step of Adam, as the study orders them."""
    optimisers = [torch.optim.Adam(side.parameters(), lr) for side in (generator, discriminator)]
    loss = functional.binary_cross_entropy_with_logits
    classes = discriminator.label.in_features  # also of a compiled one

    def step(x_BTF: torch.Tensor, label_B: torch.Tensor) -> None:
        x, label = x_BTF.transpose(1, 2), functional.one_hot(label_B, classes).float()
        fake = generator(torch.randn(len(x), latent, device=x.device), label)
        real_B, fake_B = discriminator(x, label), discriminator(fake.detach(), label)
        judged = (loss(real_B, torch.ones_like(real_B)) + loss(fake_B, torch.zeros_like(fake_B))) / 2
        optimisers[1].zero_grad()
        judged.backward()
        optimisers[1].step()
        fake_B = discriminator(fake, label)
        fooled = loss(fake_B, torch.ones_like(fake_B))
        optimisers[0].zero_grad()
        fooled.backward()
        optimisers[0].step()

    return step

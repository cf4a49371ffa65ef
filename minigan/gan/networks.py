"""Build the generator and the discriminator from the options of a run."""

from __future__ import annotations

from .. import nn
from ..training.config import Config
from .conditional import CLASSIFYING, head_in_features, input_sizes, make_conditional
from .models import MODELS

Shape = tuple[int, ...]


def build_networks(
    config: Config, sample_shape: Shape, classes: int | None
) -> tuple[nn.Module, nn.Module]:
    """Return (generator, discriminator) by the model, condition, pack and minibatch of a Config.

    Args:
        config: the options of the run.
        sample_shape: (C, H, W) for images, (D,) for points.
        classes: the number of label classes, None for data without labels.

    Raises:
        ValueError: the model does not support such samples, or an option needs labels, images or a
            discriminator without batch norm.
    """
    is_conditional = config.condition != "none"
    if config.condition == "infogan":  # The label is a code, and the data's labels are not used.
        classes = config.categories
    if is_conditional and not classes:
        raise ValueError(
            f"condition = {config.condition!r} needs labels, and the data have none"
            " (glyphs, mnist, ring and grid do, and an .npz or a folder of folders may)"
        )
    if config.augment != "none" and len(sample_shape) != 3:
        raise ValueError(f"augment = {config.augment!r} is for images, not for {sample_shape}")
    model = MODELS[config.model or "mlp"]
    latent_size = config.latent_size or model.latent_size
    if config.codes > latent_size:
        raise ValueError(
            f"codes = {config.codes}, but the codes are the first numbers of a latent, which has"
            f" latent_size = {latent_size}"
        )
    # Packing and a concatenated label add channels to an image, coordinates to a point.
    first, *rest = sample_shape
    discriminator_shape = (config.pack * first, *rest)
    if is_conditional and classes:
        # Config refuses a condition with pack > 1, so no channels of packing are lost here.
        latent_size, discriminator_shape = input_sizes(
            config.condition, latent_size, sample_shape, classes
        )
    networks = model.build(sample_shape, latent_size, discriminator_shape)
    _check_shapes("generator", networks[0], (latent_size,), sample_shape)
    _check_shapes("discriminator", networks[1], discriminator_shape, (1,))
    _check_layers(config, networks[1])
    generator: nn.Module = networks[0]
    unconditional = add_minibatch_layer(networks[1], config.minibatch)
    discriminator: nn.Module = unconditional
    if is_conditional and classes:
        generator, discriminator = make_conditional(
            config.condition, generator, unconditional, sample_shape, classes, config.codes
        )
    if config.penalties and nn.has_batch_norm(discriminator):
        raise ValueError(
            f"penalty = {config.penalty!r}, but the discriminator of model = {config.model!r} has"
            " batch norm, so a sample's logit has no slope of its own (Gulrajani et al. 2017,"
            " section 4); a model without it is needed, such as mlp, toy, sngan or resnet"
        )
    return generator, discriminator


def _check_shapes(player: str, net: nn.Module, inputs: Shape, outputs: Shape) -> None:
    """Raise ValueError where a layer does not fit, with the shapes up to it, or the output."""
    *_, (_, shape) = nn.shapes(net, inputs)
    if shape[1:] != outputs:
        raise ValueError(
            f"the {player} makes {shape[1:]} of {inputs}, where {outputs} is needed for a sample"
        )


def _check_layers(config: Config, discriminator: nn.Module) -> None:
    """Raise ValueError where an option needs the last layer of a discriminator that has none."""
    needs = {
        "minibatch": config.minibatch != "none",
        "condition": config.condition in (*CLASSIFYING, "projection"),
        "generator_loss": config.generator_loss == "feature-matching",
    }
    if isinstance(discriminator, nn.Sequential) and len(discriminator):
        head = discriminator[-1]
        head = head.module if isinstance(head, (nn.SpectralNorm, nn.EqualizedLR)) else head
        if isinstance(head, nn.Dense):
            return
    for name, is_needed in needs.items():
        if is_needed:
            raise ValueError(
                f"{name} = {getattr(config, name)!r} needs a discriminator that is an nn.Sequential"
                f" whose last layer is nn.Dense(features, 1), not a {type(discriminator).__name__}"
            )


def add_minibatch_layer(net: nn.Sequential, layer: str) -> nn.Sequential:
    """Return the discriminator with a minibatch layer and a new last layer after it.

    `layer` is "stddev" (one more feature), "discrimination" (eight more) or "none".
    """
    if layer == "none":
        return net
    inputs = head_in_features(net)
    extra_features = {"stddev": 1, "discrimination": 8}[layer]
    minibatch: nn.Module = nn.MinibatchStdDev()
    if layer == "discrimination":
        minibatch = nn.MinibatchDiscrimination(inputs, extra_features, kernel_dims=4)
    head: nn.Module = nn.Dense(inputs + extra_features, 1)
    head = nn.spectral_norm(head) if isinstance(net[-1], nn.SpectralNorm) else head
    return nn.Sequential(*net[:-1], minibatch, head)

"""Class-conditional networks: what each computes, by hand."""

import numpy as np
import pytest
from player_helpers import N, bent, close, labels, line, points

import minigan as mg
from minigan import Config, nn
from minigan.gan.conditional import (
    AuxiliaryClassifier,
    ConcatDiscriminator,
    ConditionalGenerator,
    ProjectionDiscriminator,
)
from minigan.gan.networks import build_networks

Y = labels().numpy()


def test_the_labels_embedding_is_concatenated_to_the_latent():
    g = ConditionalGenerator(nn.Sequential(nn.Dense(5, 2)), 3)
    z = points()
    w, b = (x.numpy() for x in g.net.parameters())
    inputs = np.concatenate([z.numpy(), g.embedding.weight.numpy()[Y]], axis=1)
    close(g(z, labels()).numpy(), inputs @ w + b)


@pytest.mark.parametrize(("classes", "size"), [(1, 1), (10, 10), (64, 64), (1000, 64)])
def test_the_generators_embedding_is_one_hot_wide_up_to_64(classes, size):
    g, _ = build_networks(Config(condition="acgan", model="toy"), (2,), classes)
    assert g.embedding.weight.shape == (classes, size)
    assert g.net[0].weight.shape[0] == 2 + size


def test_concat_logits_of_points_by_hand():
    d = ConcatDiscriminator(line(5), (2,), 3)
    x = points()
    w, b = (p.numpy() for p in d.net.parameters())
    rows = d.embedding.weight.numpy()[Y]
    close(d(x, labels()).numpy(), np.concatenate([x.numpy(), rows], axis=1) @ w + b)


def test_concat_puts_one_more_plane_behind_an_images_channels():
    d = ConcatDiscriminator(nn.Sequential(nn.Flatten(), nn.Dense(4 * 6, 1)), (3, 2, 3), 5)
    x = np.random.default_rng(0).standard_normal((N, 3, 2, 3)).astype(np.float32)
    w, b = d.net[1].weight.numpy(), d.net[1].bias.numpy()
    plane = d.embedding.weight.numpy()[Y].reshape(N, 1, 2, 3)
    inputs = np.concatenate([x, plane], axis=1).reshape(N, -1)
    close(d(mg.tensor(x), labels()).numpy(), inputs @ w + b)
    assert np.array_equal(d.features(mg.tensor(x), labels()).numpy(), inputs)


def test_projection_logits_by_hand():
    d = ProjectionDiscriminator(bent(), (2,), 3)
    x = points()
    features = d.net[:-1](x).numpy()
    w, b = d.net[-1].weight.numpy(), d.net[-1].bias.numpy()
    inner = (d.embedding.weight.numpy()[Y] * features).sum(axis=1, keepdims=True)
    close(d(x, labels()).numpy(), features @ w + b + inner)


def test_a_projections_rows_begin_with_length_1():
    d = ProjectionDiscriminator(line(400), (400,), 50)
    squares = (d.embedding.weight.numpy() ** 2).sum(axis=1)
    assert squares.mean() == pytest.approx(1, abs=4 * np.sqrt(2 / 400 / 50))


def test_a_spectral_nets_projection_is_spectral_too():
    d = ProjectionDiscriminator(nn.Sequential(nn.spectral_norm(nn.Dense(2, 1))), (2,), 3).eval()
    assert isinstance(d.embedding, nn.SpectralNorm)
    assert not isinstance(ProjectionDiscriminator(line(), (2,), 3).embedding, nn.SpectralNorm)
    table = d.embedding.normalized_weight().numpy()
    assert np.linalg.svd(table, compute_uv=False)[0] == pytest.approx(1, abs=1e-3)
    x, head = points(), d.net[0]
    plain = x.numpy() @ head.normalized_weight().numpy() + head.module.bias.numpy()
    inner = (table[Y] * x.numpy()).sum(axis=1, keepdims=True)
    close(d(x, labels()).numpy(), plain + inner, 1e-5)


def test_an_auxiliary_classifier_stands_behind_the_logit():
    d = AuxiliaryClassifier(bent(), (2,), 3)
    x = points()
    features = d.net[:-1](x).numpy()
    head, classifier = (
        features @ m.weight.numpy() + m.bias.numpy() for m in (d.net[-1], d.classifier)
    )
    output = d(x, labels()).numpy()
    assert output.shape == (N, 4)
    close(output[:, :1], head)
    close(output[:, 1:], classifier)
    assert np.array_equal(output, d(x, labels(*[0] * N)).numpy())  # the label is not used

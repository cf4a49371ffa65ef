"""Nets that grow: the schedule, the fade, resolutions, derivatives, captured and resumed runs."""

import itertools

import numpy as np
import pytest
from helpers import DEVICES, assert_close
from player_helpers import spy, tiles
from run_helpers import train

import minigan as mg
from minigan import Config, Trainer
from minigan.gan.models import MODELS
from minigan.gan.progressive import (
    GrowingFeatures,
    Progressive,
    default_grow_steps,
    growing_parts,
    growth_at,
)
from minigan.training import checkpoint
from minigan.training.load_sampler import load_sampler
from minigan.utils.notices import Notice

RNG = np.random.default_rng
SMALL = {"model": "progressive", "batch": 4, "steps": 20, "lr_g": 1e-3, "lr_d": 1e-3}


@pytest.fixture(autouse=True)
def small_nets(monkeypatch):
    monkeypatch.setitem(MODELS, "progressive", Progressive("", width=4, latent_size=5))


def nets(shape=(1, 16, 16), dtype="float64", device="cpu"):
    """Nets with biases that are not 0, as after a training."""
    mg.manual_seed(1)
    pair = Progressive("", width=2).build(shape, 3)
    for net in pair:
        state = net.state_dict()
        for name in state:
            if name.endswith("bias"):
                state[name] = RNG(len(name)).standard_normal(state[name].shape).astype("f4") / 4
        net.load_state_dict(state)
        net.to(device, dtype)
    return pair


def grow(growth, *pair):
    for part in growing_parts(*pair):
        part.grow(growth)


def blocks(x, k):
    """The means of blocks of k x k pixels."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // k, k, w // k, k).mean(axis=(3, 5))


def enlarged(x, k):
    return x.repeat(k, axis=2).repeat(k, axis=3)


# ------------------------------------------------------------------------------------ the schedule
def test_each_resolution_is_faded_in_and_then_trained():
    growth = [growth_at(step, 4, 2) for step in range(24)]
    rises = [0, 0.25, 0.5, 0.75]
    one, two = [1.0] * 4, [2.0] * 8
    assert growth == [0.0] * 4 + rises + one + [1 + alpha for alpha in rises] + two
    assert growth_at(10**9, 4, 2) == 2
    assert growth_at(0, 0, 2) == 2
    assert [growth_at(step, 1, 1) for step in range(3)] == [0, 0, 1]


def test_the_default_leaves_two_phases_to_the_full_size():
    assert default_grow_steps(600, (1, 28, 28)) == 100  # small, fade, middle, fade, and two
    assert default_grow_steps(600, (3, 64, 64)) == 60
    assert default_grow_steps(3, (1, 28, 28)) == 1


# ------------------------------------------------------------------------------------- resolutions
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 16, 16), (1, 8, 8), (3, 32, 48)])
def test_at_each_resolution_images_consist_of_blocks(shape):
    generator, discriminator = nets(shape)
    last = generator[0].last
    latent = mg.tensor(RNG(0).standard_normal((4, 3)))
    for growth in np.arange(0, last + 0.5, 0.5):
        grow(growth, generator, discriminator)
        image = generator(latent).numpy()
        assert image.shape == (4, *shape)
        k = 2 ** (last - int(np.ceil(growth)))
        np.testing.assert_array_equal(image, enlarged(image[:, :, ::k, ::k], k))
        if growth % 1 == 0 < growth:  # not of larger blocks: the resolution is used
            assert np.abs(image - enlarged(blocks(image, 2 * k), 2 * k)).max() > 1e-3
        assert discriminator(mg.tensor(image)).shape == (4, 1)
        real = RNG(1).standard_normal((4, *shape))
        logits = [discriminator(mg.tensor(x)).numpy() for x in (real, enlarged(blocks(real, k), k))]
        np.testing.assert_allclose(*logits, atol=1e-12)  # what is finer is not seen


def test_another_size_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"images of 30x30 pixels: .*28x28"):
        Progressive("").build((1, 30, 30), 4)
    with pytest.raises(ValueError, match="samples of shape"):
        Progressive("").build((2,), 4)


@pytest.mark.parametrize("level", [0, 1])
def test_a_fade_begins_at_the_old_images_and_ends_at_the_new_ones(level):
    generator, discriminator = nets()
    latent, real = mg.tensor(RNG(0).standard_normal((4, 3))), RNG(1).standard_normal((4, 1, 16, 16))
    results = []
    for growth in (level, level + 1e-6, level + 0.5, level + 1 - 1e-6, level + 1):
        grow(growth, generator, discriminator)
        x = discriminator[0].fade_real(mg.tensor(real))
        results.append([y.numpy() for y in (generator(latent), discriminator(x))])
    before, begin, middle, end, after = results
    for i in range(2):
        np.testing.assert_allclose(before[i], begin[i], atol=1e-4)
        np.testing.assert_allclose(after[i], end[i], atol=1e-4)
        for other in (before, after):
            assert np.abs(middle[i] - other[i]).max() > 0.01


def test_a_fade_is_the_sum_of_both_by_alpha():
    generator, discriminator = nets()
    latent, image = (
        mg.tensor(RNG(0).standard_normal((4, 3))),
        RNG(1).standard_normal((4, 1, 16, 16)),
    )
    before_tanh = []
    for growth in (1, 1.25, 2):
        grow(growth, generator, discriminator)
        before_tanh.append(np.arctanh(generator(latent).numpy()))
    old, mixed, new = before_tanh
    np.testing.assert_allclose(mixed, 0.75 * old + 0.25 * new, atol=1e-10)
    grow(1.25, discriminator)
    real = discriminator[0].fade_real(mg.tensor(image)).numpy()
    np.testing.assert_allclose(
        real, 0.75 * enlarged(blocks(image, 2), 2) + 0.25 * image, atol=1e-12
    )
    grow(0.25, discriminator)
    real = blocks(discriminator[0].fade_real(mg.tensor(image)).numpy(), 2)
    expected = 0.75 * enlarged(blocks(image, 4), 2) + 0.25 * blocks(image, 2)
    np.testing.assert_allclose(real, expected, atol=1e-12)
    grow(1, discriminator)
    assert discriminator[0].fade_real(mg.tensor(image)).numpy().tobytes() == image.tobytes()


# ------------------------------------------------------------------------------------- derivatives
@DEVICES
@pytest.mark.parametrize("growth", [0, 0.3, 1])
def test_derivatives_up_to_order_2(device, growth):
    generator, discriminator = nets((1, 8, 8), device=device)
    grow(growth, generator, discriminator)
    latent, image = RNG(0).standard_normal((2, 3)), RNG(1).standard_normal((2, 1, 8, 8))
    mg.check_gradients(generator, [latent], device=device)
    mg.check_gradients(discriminator, [image], device=device)


def test_parity_with_a_plain_formula_in_pytorch():
    """Logits of generated images in the middle of a fade, and their derivatives by the latents."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    from torch_helpers import derivatives, torch_derivatives

    F = torch.nn.functional
    pair = nets((1, 8, 8))
    grow(0.3, *pair)
    g, d = ({k: torch.tensor(x) for k, x in net.state_dict().items()} for net in pair)

    def layer(state, name, x, gain=2**0.5):
        weight, bias = state[f"{name}.module.weight"], state[f"{name}.module.bias"]
        if weight.ndim == 2:
            return x @ (weight * gain / weight.shape[0] ** 0.5) + bias
        scaled = weight * gain / weight[0].numel() ** 0.5
        return F.conv2d(x, scaled, bias, padding=weight.shape[2] // 2)

    def lrelu(x):
        return F.leaky_relu(x, 0.2)

    def norm(x):
        return x / torch.sqrt(x.square().mean(1, keepdim=True) + 1e-8)

    def generate(z):
        x = layer(g, "0.base.1", norm(z), 2**0.5 / 4).reshape(len(z), -1, 4, 4)
        x = norm(lrelu(layer(g, "0.base.5", norm(lrelu(x)))))
        old = F.interpolate(layer(g, "0.to_image.0", x, 1), scale_factor=2)
        x = norm(lrelu(layer(g, "0.blocks.0.0", F.interpolate(x, scale_factor=2))))
        x = norm(lrelu(layer(g, "0.blocks.0.3", x)))
        return torch.tanh(0.7 * old + 0.3 * layer(g, "0.to_image.1", x, 1))

    def discriminate(image):
        x = lrelu(layer(d, "0.from_image.1.0", image))
        x = lrelu(layer(d, "0.blocks.0.2", lrelu(layer(d, "0.blocks.0.0", x))))
        old = lrelu(layer(d, "0.from_image.0.0", F.avg_pool2d(image, 2)))
        x = 0.7 * old + 0.3 * F.avg_pool2d(x, 2)
        deviation = (x.var(0, correction=0) + 1e-8).sqrt().mean().expand(len(x), 1, 4, 4)
        x = lrelu(layer(d, "2", torch.cat([x, deviation], 1))).flatten(1)
        return layer(d, "7", lrelu(layer(d, "5", x)), 1)

    for net in pair:  # 0.3 is not a float32, in which the growth is chosen
        for part in growing_parts(net):
            mg.optim.assign(part.growth, mg.tensor(0.3, dtype="float64"))
    arrays = [RNG(0).standard_normal((3, 3))]
    ours = derivatives(lambda z: pair[1](pair[0](z)), arrays, "cpu")
    theirs = torch_derivatives(lambda z: discriminate(generate(z)), arrays)
    for y, want in zip(ours, theirs, strict=True):
        assert_close(y, want, 1e-10 * max(1.0, float(np.abs(want).max())))


# ---------------------------------------------------------------------------------------- training
def test_parts_of_higher_resolutions_wait_and_the_optimizers_begin_anew():
    trainer = Trainer(Config(**SMALL, grow_steps=3, ema=0.5), tiles(side=8))
    first = trainer.generator.state_dict()
    powers, changed = [], []
    for _ in range(6):
        trainer.step()
        powers.append(trainer.players.optimizers["g"].state.numpy()[1])
        state = trainer.generator.state_dict()
        changed.append({k.split(".")[1] for k, x in state.items() if (x != first[k]).any()})
    # Steps 3 and on fade, of which the first still has alpha = 0.
    np.testing.assert_allclose(powers, [0.5, 0.25, 0.125, 0.0625, 0.5, 0.25])
    assert changed[3] == {"base", "to_image"}
    assert changed[5] == {"base", "to_image", "blocks", "growth"}
    waiting = [k for k in first if k.startswith("0.to_image.1")]
    assert len(waiting) == 2


def test_alpha_is_read_on_the_device_and_no_step_of_a_fade_is_recorded_anew(monkeypatch):
    trainer = Trainer(Config(**SMALL, grow_steps=5), tiles(side=8))
    runs, step = [], trainer.players.step

    def noted(*batches):
        runs.append(trainer.step_count)
        return step(*batches)

    monkeypatch.setattr(trainer.players, "step", noted)
    for _ in range(12):
        trainer.step()
    fade = [i for i in runs if 6 <= i < 10]
    assert len(fade) <= 2, runs  # the first one of the fade, which has alpha = 1 / 5
    assert {6, 10} <= set(runs)


@pytest.mark.parametrize("step", [6, 8, 11])
def test_a_run_is_continued_with_the_same_bits_at_any_step(step, tmp_path):
    options = Config(**SMALL, grow_steps=5, ema=0.9, penalty="r1", loss="relativistic")
    straight = Trainer(options, tiles(side=8))
    for i in range(14):
        if i == step:
            checkpoint.save(tmp_path / "half", *straight.state())
        row = straight.step()
    other = Trainer(options, tiles(side=8))
    other.load_state(*checkpoint.load(tmp_path / "half"))
    for _ in range(14 - step):
        again = other.step()
    assert again == row
    for (name, x), y in zip(straight.state()[0].items(), other.state()[0].values(), strict=True):
        assert np.array_equal(x, y), name


def test_the_discriminator_sees_faded_reals():
    trainer = Trainer(Config(**SMALL, grow_steps=4, loss="relativistic"), tiles(side=8))
    trainer.captured = False
    players = trainer.players
    seen = spy(players.discriminator)
    real = RNG(0).random((4, 3, 8, 8)).astype(np.float32)
    mixed = 0.75 * enlarged(blocks(real, 2), 2) + 0.25 * real
    for step, expected in ((1, real), (5, mixed), (8, real)):  # smallest images, alpha = 1 / 4, all
        players.prepare(step)
        seen.clear()
        players.step([mg.tensor(real)], [])
        # Real and fake images of D's step, fake ones of G's step, and real ones for its loss.
        np.testing.assert_allclose(seen[0][0], expected, atol=1e-6)
        np.testing.assert_allclose(seen[3][0], expected, atol=1e-6)
        assert len(seen) == 4


def test_a_snapshot_has_the_images_of_its_resolution(tmp_path):
    data = tmp_path / "images.npz"
    np.savez(data, images=tiles(side=8).values)
    options = ["--data", data, "--model", "progressive", "--grow-steps", 2, "--batch", 4]
    options += ["--steps", 5, "--ema", 0.5, "--sample-every", 1, "--keep", 9, "--holdout", 0]
    train(tmp_path / "run", *options)
    for step, block in ((1, 2), (3, 2), (4, 1), (5, 1)):
        images = load_sampler(tmp_path / "run", step).sample(3)
        is_small = np.array_equal(images, enlarged(images[:, :, ::2, ::2], 2))
        assert is_small == (block == 2), step


def test_without_growth_the_full_size_is_trained_from_the_start():
    trainer = Trainer(Config(**SMALL, grow_steps=0), tiles(side=8))
    trainer.step()
    assert {(x.level, x.is_fading) for x in trainer.players.growing} == {(1, False)}
    assert trainer.config.grow_steps == 0
    images = trainer.sample(2)
    assert np.abs(images - enlarged(blocks(images, 2), 2)).max() > 1e-3


def test_all_players_grow_and_packed_conditional_ones_too():
    for options in ({"pack": 2}, {"condition": "acgan", "ema": 0.5}, {"condition": "concat"}):
        data = tiles(side=8, channels=1)
        trainer = Trainer(Config(**SMALL, grow_steps=1, **options), data)
        for _ in range(3):
            trainer.step()
        assert {x.level for x in trainer.players.growing} == {1}
        assert len(trainer.players.growing) == 2 + ("ema" in options)
        assert any(isinstance(x, GrowingFeatures) for x in trainer.players.growing)


def test_options_that_do_not_fit():
    with pytest.raises(ValueError, match="grow_steps = 5 without model = 'progressive'"):
        Config(grow_steps=5)
    with pytest.raises(ValueError, match="model = 'progressive' compares samples by fours, and"):
        Config(model="progressive", batch=6)
    with pytest.warns(Notice, match=r"reach the full size after 20 steps, and the training has 20"):
        Trainer(Config(**SMALL, grow_steps=10), tiles(side=8))
    short = Trainer(Config(**SMALL), tiles(side=8)).config
    assert short.grow_steps == 5
    assert Trainer(short.replace(steps=90), tiles(side=8)).config.grow_steps == 5


# ------------------------------------------------------------------------------------ the optimizer
@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd"])
def test_a_reset_optimizer_is_a_new_one_with_its_learning_rate(name):
    def make(value):
        x = mg.tensor(value, requires_grad=True)
        return x, mg.optim.OPTIMIZERS[name]([x], 0.1, 0.9, 0.99, 0.01)

    x, optimizer = make([1.0, -2.0])
    rng = RNG(0)
    for _ in range(3):
        optimizer.step([mg.tensor(rng.standard_normal(2).astype("f4"))])
    optimizer.lr = 0.2
    optimizer.reset()
    y, new = make(x.numpy())
    new.lr = 0.2
    gradients = [mg.tensor(rng.standard_normal(2).astype("f4")) for _ in range(2)]
    for g, (_, each) in itertools.product(gradients, ((x, optimizer), (y, new))):
        each.step([g])
    np.testing.assert_array_equal(x.numpy(), y.numpy())

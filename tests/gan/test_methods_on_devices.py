"""Every option set on every device gives the numbers of the reference device."""

import pytest
from helpers import DEVICES
from player_helpers import TABLE, cloud, small_models

from minigan import Config, Trainer

__all__ = ["small_models"]

# A loss of differences of logits leaves D's last bias a gradient of rounding errors alone, whose
# sign Adam and RMSprop would make a whole step of; SGD does not.
SMALLEST = {"batch": 4, "steps": 2, "warmup": 0, "optimizer": "sgd", "lr_g": 0.01, "lr_d": 0.01}


@DEVICES
@pytest.mark.parametrize("name", TABLE)
@pytest.mark.usefixtures("small_models")
def test_every_device_agrees_with_the_reference(name, device):
    """Two steps' numbers are the reference's, to float32's rounding of sums in another order."""
    data, own = TABLE[name]
    own = {**own, **SMALLEST}
    rows = []
    for each in ("reference", device):
        mine = data(24, 3) if data is cloud else data(12, 1, 8)
        trainer = Trainer(Config(**own, device=each), mine)
        rows.append([trainer.step(norms=True) for _ in range(2)])
        assert trainer.sample(2).shape == (2, *mine.sample_shape)
    for a, b in zip(*rows, strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-5)

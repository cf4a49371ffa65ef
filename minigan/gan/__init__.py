"""Losses, penalties, models and the training step of generative adversarial networks."""

"""Losses, penalties, models and the training step of generative adversarial networks.

`README.md` in this folder lists the methods and the options that choose them.
"""

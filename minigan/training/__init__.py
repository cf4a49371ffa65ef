"""Train a GAN from a Config, and keep the run in a folder."""

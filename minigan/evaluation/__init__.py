"""Measure the samples of a training: all measures of a run, and quick ones while it trains."""

"""Small helpers that several packages share: names, figures, progress bars, file locks."""

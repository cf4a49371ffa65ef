"""The common parts of all kernel families: compilation, caches, launches, recording, threads."""

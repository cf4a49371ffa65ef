"""What every kernel of a device shares: compilation, caches, threads, flat views of arrays."""

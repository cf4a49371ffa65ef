"""What all kernel families share: compilation, caches, launches, recording, threads, timing."""

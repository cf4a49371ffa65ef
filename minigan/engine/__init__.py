"""Record operations on tensors, differentiate them, and run them on devices."""

"""One fit: its options, how it ends, its callbacks and history."""

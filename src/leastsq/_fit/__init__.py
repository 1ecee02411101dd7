"""One fit: its options, its end, those who look on."""

"""The Redis side: keys, the state machine, the scripts and the typed calls on them."""

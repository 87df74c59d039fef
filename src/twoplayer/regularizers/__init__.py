"""Extra terms and constraints on a player. Usable alone in any training loop."""

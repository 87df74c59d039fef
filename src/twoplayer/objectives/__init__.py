"""The games: what each player minimizes, as a number per image. Usable alone in any training loop."""

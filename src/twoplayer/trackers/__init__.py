"""Where else a training is written down: one file each, imported only when a recipe asks for it."""

"""Random changes of images before D sees them, through which G learns. Usable alone in any training loop."""

"""Layers with exactly stated arithmetic, usable in any network."""

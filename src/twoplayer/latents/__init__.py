"""Distributions of z."""

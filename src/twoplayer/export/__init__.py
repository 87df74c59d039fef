"""Trained generators in formats that others use."""

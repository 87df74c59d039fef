"""Figures that compare fakes with real images."""

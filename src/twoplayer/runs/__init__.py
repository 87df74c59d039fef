"""A run's folder: its layout, its lock, and everything a person looks at in it."""

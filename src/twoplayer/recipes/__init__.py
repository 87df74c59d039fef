"""One YAML file per system, the schema they follow, and how overrides are merged into them."""

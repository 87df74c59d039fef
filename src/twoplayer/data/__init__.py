"""From what the user has to batches on the device: source -> uint8 images -> batches."""

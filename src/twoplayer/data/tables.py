"""What columns of tables of pictures are called."""

from __future__ import annotations

IMAGE_COLUMNS = ("image", "img", "picture")
LABEL_COLUMNS = ("label", "labels", "fine_label")
"""What sets on the hub call these columns, the likeliest first."""

MAX_CLASSES = 10_000

"""Judging generators. Knows nothing of training; `api.py` brings the two together."""

"""The words every other room speaks: batches, verdicts, pieces, random streams, errors."""

"""The command line. Its modules import heavy rooms inside their functions, so that help appears at once."""

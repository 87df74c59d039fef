"""The game being played: step, order of play, loop, averages, checkpoints."""

"""Station 1, the command: from a line of text to a running experiment."""

"""Station: where a residual vanishes."""

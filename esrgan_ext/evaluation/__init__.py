"""How good a result is: metrics against the original, over folders and models."""

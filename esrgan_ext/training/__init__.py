"""Trains the networks: recipes, data, losses, and the loop that can be killed at any moment."""

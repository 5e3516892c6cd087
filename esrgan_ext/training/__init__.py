"""Trains the networks: recipes, data, losses, and the loop that can be killed at any moment.

Words: a *recipe* is everything that decides a run's result but the data; a *checkpoint* is the
state of a run at one step, from which it continues to the same result; *exposures* are LR and HR
patches made from a microscopy plane with a camera's noise.
"""

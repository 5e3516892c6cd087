"""Builds the compiled extension when torch can be imported; metadata is in pyproject.toml."""

from setuptools import setup

setup()

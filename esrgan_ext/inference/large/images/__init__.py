"""Images that are read in parts: OME-Zarr, TIFF, and what names and scales their axes.

Words: a *source* is an array on disk that every process opens for itself; a *scene* is an image's
description beside its pixels; a *level* is one size of its pyramid.
"""

"""The napari plugin: ESRGAN super-resolution of image layers.

Importing this package, or reading its manifest, imports neither torch nor Qt; `napari.yaml`
names what is loaded when.
"""

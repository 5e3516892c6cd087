"""napari's layers, viewer and preferences, without Qt.

Words: a layer is *in register* with another when the same place of the sample is at the same world
coordinates in both; the rectangles (region, core, piece) are those of `esrgan_ext.inference`.
"""

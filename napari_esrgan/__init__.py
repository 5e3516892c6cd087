"""napari plugin for ESRGAN upscaling."""

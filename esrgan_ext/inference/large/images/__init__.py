"""Images that are read in parts: OME-Zarr, TIFF, and what names and scales their axes."""

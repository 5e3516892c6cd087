"""Image formats at the level of bytes: what OpenCV's codecs do not tell (whether a file is
complete, its resolution in DPI, whether gray is gray+alpha) and what they do not write. One
module a format; pixels are decoded and encoded in `opencv` and `tiff`."""

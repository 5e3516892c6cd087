"""The napari plugin: ESRGAN super-resolution of image layers.

Importing this package, or reading its manifest, imports neither torch nor Qt; `napari.yaml`
names what is loaded when. `_work` imports neither Qt nor napari, `_viewer` napari alone, `_window`
both.

Words: a *request* is all that a run needs, taken from a layer on the GUI thread; a *run* is its way
to a result layer, with a bar and a button that stops it; a *mix* is a network between two models; a
*live* layer is computed where it is looked at, when it is looked at; a *swipe* is the line on the
canvas with the source on its left and the result on its right.
"""

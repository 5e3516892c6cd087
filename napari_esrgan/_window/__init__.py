"""Qt: threads that report to a window, forms, docks and previews.

Words: a *run* upscales one layer, under a *panel* (bar, line of text, stop button); a *task*
computes a layer about another one and needs no panel; a *queue* is one run after another; the
*inventory* is the machine's models and devices; a *preview* is a layer over a part of the view that
follows a slider.
"""

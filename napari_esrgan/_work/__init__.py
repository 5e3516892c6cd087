"""Neither Qt nor napari: requests, models, the work itself and its results.

Words: a *request* is all that a thread needs to upscale a layer, an *outcome* the thread's answer;
*reports* are its messages on the way; a *mix* is a network between two models; a *sweep* is a stack
of one plane at every alpha between them; a *stand-in* is a network without weights that costs as
much time and memory as a model that is not downloaded yet.
"""

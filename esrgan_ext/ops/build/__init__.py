"""Getting a compiled library and trusting it: toolchain, compiler, loading, self-check.

Words: a *build* is one compilation of the kernels, named by everything its machine code depends on;
a *library* is the file that it leaves; the *self-check* compares its results on this device with
the definition; a *path* is a set of CUDA kernels (mma or wgmma) that a GPU can run.
"""

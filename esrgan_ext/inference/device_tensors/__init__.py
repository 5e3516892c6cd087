"""Tensors on a GPU: what the array's modules of the same names do, without a way over the host.

The pixels stay where they are. What crosses is what a decision needs: flags, extremes, order
statistics, a few dozen numbers at most whatever the size of the picture. `job` is the way in;
`windows` is one window's, with `hot_pixels`, `nearest` (what is missing) and `consistency`;
`ranges` and `noise` look at a whole picture first.
"""

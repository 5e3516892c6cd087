"""Getting a compiled library and trusting it: toolchain, compiler, loading, self-check."""

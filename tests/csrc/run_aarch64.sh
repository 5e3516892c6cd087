#!/bin/sh
# Cross-compiles the C++ tests for aarch64 and runs them under qemu-user: NEON through the same
# vector code. By hand, a few minutes; Debian packages g++-aarch64-linux-gnu and qemu-user.
set -e
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
for name in test_network test_compact; do
    aarch64-linux-gnu-g++ -std=c++17 -O2 -static -Wall -Wextra -I"$root/csrc/cpu" \
        "$root/tests/csrc/$name.cpp" "$root"/csrc/cpu/*.cpp -lpthread -o "$build/$name"
    qemu-aarch64 "$build/$name"
done

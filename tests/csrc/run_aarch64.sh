#!/bin/sh
# Cross-compiles the C++ test for aarch64 and runs it under qemu-user: NEON through the same
# vector code. By hand, a few minutes; Debian packages g++-aarch64-linux-gnu and qemu-user.
set -e
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
aarch64-linux-gnu-g++ -std=c++17 -O2 -static -Wall -Wextra -I"$root/csrc/cpu" \
    "$root/tests/csrc/test_network.cpp" "$root"/csrc/cpu/*.cpp -lpthread -o "$build/test"
qemu-aarch64 "$build/test"

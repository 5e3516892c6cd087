#!/bin/sh
# Sets up everything the tests need, in a virtual environment, and runs them.
#   ./test.sh [arguments of pytest]      (-n 0: all in one process, for a debugger)
# ESRGAN_TEST_VENV names the environment (default: .venv-test in this folder).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${ESRGAN_TEST_VENV:-$here/.venv-test}
. "$here/scripts/environment.sh"
make_environment "$venv"
# A compiler and Python's headers for the extension, and what a napari window needs on a virtual
# screen.
need_packages g++ python3-dev libgl1 libegl1 libxkbcommon0 libdbus-1-3 libfontconfig1 libglib2.0-0 \
    xvfb xauth libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0
# torch first: the CUDA operators are compiled against it, outside of pip's isolated environment.
install_torch "$venv" "$here/constraints.txt"
"$venv/bin/python" -m pip install -q -c "$here/constraints.txt" numpy setuptools wheel ninja pybind11
"$venv/bin/python" -m pip install -q -c "$here/constraints.txt" --no-build-isolation -e "$here[test]"
cd "$here"
# A process for each core and one more, because some tests wait (8:08 minutes on two cores, with one
# for each 8:39); four at most for the memory. A file's tests stay together, because they share what
# they compile. The cores are shared out among the processes: more threads than cores take twice the
# time for the small images of tests. Threads that wait leave the cores to the others.
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
workers=$((cores + 1))
if [ "$workers" -gt 4 ]; then workers=4; fi
threads=$((cores / workers))
if [ "$threads" = 0 ]; then threads=1; fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$threads}"
if [ "$cores" = 1 ]; then workers=0; fi
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
# The tests start hundreds of processes, each of which would compile the package.
unset PYTHONDONTWRITEBYTECODE
# Of pytest's plugins only those that the tests use: pytest rewrites every module of a package that
# brings one, and napari would be loaded by processes that have no use for it.
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
plugins="-p xdist -p pytest_timeout -p _hypothesis_pytestplugin -p pytestqt.plugin -p pytest_xvfb
    -p npe2._pytest_plugin -p napari.utils._testsupport"
# shellcheck disable=SC2086 # several words
exec "$venv/bin/python" -m pytest $plugins -n "$workers" --dist loadfile --no-loadscope-reorder "$@"

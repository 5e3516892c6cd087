#!/bin/sh
# Installs esrgan_ext into a virtual environment and upscales the images of LR/ into results/.
#   ./try.sh [options of `esrgan upscale`]
# ESRGAN_VENV names the environment (default: .venv in this folder), ESRGAN_TORCH=cpu|cuda the build
# of PyTorch (default: the one for CPUs where there is no NVIDIA driver).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${ESRGAN_VENV:-$here/.venv}
. "$here/scripts/environment.sh"
make_environment "$venv"
install_torch "$venv" "$here/constraints.txt"
need_compiler
"$venv/bin/python" -m pip install -q -c "$here/constraints.txt" "$here"
# Named to the interpreter: the first line of a script cannot hold every path.
exec "$venv/bin/python" "$venv/bin/esrgan" upscale "$@" "$here/LR" "$here/results"

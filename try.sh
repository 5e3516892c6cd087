#!/bin/sh
# Installs esrgan_ext into a virtual environment and upscales the images of LR/ into results/.
#   ./try.sh [options of `esrgan upscale`]
# ESRGAN_VENV names the environment (default: .venv in this folder).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${ESRGAN_VENV:-$here/.venv}
. "$here/scripts/environment.sh"
make_environment "$venv"
"$venv/bin/python" -m pip install -q -c "$here/constraints.txt" "$here"
exec "$venv/bin/esrgan" upscale "$@" "$here/LR" "$here/results"

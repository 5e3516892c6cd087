# Sourced by try.sh and test.sh: virtual environments on a machine that may be bare.

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Debian packages, installed only where one of them is missing.
need_packages() {
    command -v dpkg-query >/dev/null || return 0
    for package in "$@"; do
        if ! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed"; then
            as_root apt-get update -qq
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
            return
        fi
    done
}

# A virtual environment; Debian keeps the module that makes one in a package of its own.
make_environment() {
    [ -x "$1/bin/python" ] && return
    if ! python3 -c "import ensurepip" 2>/dev/null; then
        need_packages python3-venv
    fi
    python3 -m venv "$1"
}

# A C++ compiler for the CPU kernels, several times faster than plain PyTorch: the one that is there,
# else Debian's.
need_compiler() {
    if command -v "${CXX:-c++}" >/dev/null; then
        echo "The CPU kernels are compiled with ${CXX:-c++}."
    elif command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; }; then
        echo "There is no C++ compiler: installing g++, to compile the CPU kernels."
        need_packages g++ || echo "g++ could not be installed: plain PyTorch runs, several times slower."
    else
        echo "There is no C++ compiler: plain PyTorch runs, several times slower."
    fi
}

# PyTorch's CPU build where ESRGAN_TORCH=cpu or no NVIDIA driver is there: a tenth of the size. From
# PyTorch's own index, and where that cannot be reached from where pip installs everything else.
install_torch() {
    if "$1/bin/python" -c "import torch" 2>/dev/null; then return 0; fi
    torch=${ESRGAN_TORCH:-}
    case $torch in
    cpu | cuda) ;;
    "") if [ -e /proc/driver/nvidia/version ]; then torch=cuda; else torch=cpu; fi ;;
    *)
        echo "ESRGAN_TORCH must be cpu or cuda, not $torch" >&2
        exit 2
        ;;
    esac
    echo "Installing PyTorch ($torch)."
    if [ "$torch" = cpu ]; then
        "$1/bin/python" -m pip install -q --retries 0 --timeout 10 -c "$2" \
            --index-url https://download.pytorch.org/whl/cpu torch 2>/dev/null && return 0
        echo "PyTorch's own index cannot be reached: taking the build that pip finds."
    fi
    "$1/bin/python" -m pip install -q -c "$2" torch
}

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

#!/bin/sh
# Makes .venv with the locked packages, from nothing but Python 3.11 to 3.13 and a network; called by the Makefile.
# PYTHON=/path/to/python chooses the interpreter. Nothing outside the checkout is written, but uv's own cache.
set -eu
cd "$(dirname "$0")/.."

# A candidate must run (a version manager's shim may not), be of the right version, and be able to make a venv.
fits() {
    "$1" -I -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

find_python() {
    # The interpreter behind an existing .venv comes first, so that a second run does not change it.
    for candidate in ${PYTHON:-.venv/bin/python python3.13 python3.12 python3.11 python3}; do
        if fits "$candidate"; then
            "$candidate" -I -c 'import os, sys; print(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))'
            return
        fi
    done
    echo "Clonk needs Python 3.11, 3.12 or 3.13 with the venv module, and found none${PYTHON:+ at $PYTHON}." >&2
    echo "On Debian: apt-get install python3 python3-venv. Or name one: make PYTHON=/path/to/python3.12 ..." >&2
    return 1
}

python=$(find_python)
uv_version=$(sed -n '/^name = "uv"$/{n;s/^version = "\(.*\)"$/\1/p;}' uv.lock)

if [ "$(.tools/bin/uv --version 2>/dev/null | cut -d' ' -f2)" != "$uv_version" ]; then
    echo "Installing uv $uv_version into .tools ..."
    rm -rf .tools
    "$python" -m venv .tools
    .tools/bin/python -m pip install --quiet --disable-pip-version-check "uv==$uv_version"
fi

# An active environment of the user's, or a setting for another project, must not lead uv elsewhere.
unset VIRTUAL_ENV CONDA_PREFIX PYTHONPATH PYTHONHOME
export UV_PROJECT_ENVIRONMENT=.venv UV_PYTHON="$python" UV_PYTHON_DOWNLOADS=never
# The system's certificates where it has some, as pip does: a network's own is not among those that uv brings.
if [ -s /etc/ssl/certs/ca-certificates.crt ] || [ -s /etc/pki/tls/certs/ca-bundle.crt ]; then
    export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"
fi
echo "Installing the locked packages into .venv ($("$python" --version)) ..."
.tools/bin/uv sync --quiet --locked --all-packages --all-groups
touch .venv/.ready

#!/usr/bin/env bash
# venv.sh PYTHON FOLDER: a virtual environment of that interpreter, made anew if it is broken
# or of another version.
set -euo pipefail
python=$1 folder=$2

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "plait needs Python 3.11 or newer; $python is $("$python" --version 2>&1)." >&2
    echo "Name another one: make PYTHON=python3.13 ..." >&2
    exit 1
}
command -v cargo >/dev/null || {
    echo "plait's core is Rust, and cargo is not on the PATH: install Rust first." >&2
    exit 1
}
version() { "$1" -c 'import sys, sysconfig; print(sys.version, sysconfig.get_config_var("Py_GIL_DISABLED"))' 2>/dev/null; }
if [ "$(version "$folder/bin/python")" != "$(version "$python")" ]; then
    rm -rf "$folder"
    "$python" -m venv "$folder" || {
        echo "$python cannot make virtual environments; Debian's package is python3-venv." >&2
        exit 1
    }
fi

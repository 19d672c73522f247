#!/usr/bin/env bash
# stubs.sh VENV [--write]: generates the stubs of plait._core from the Rust source and compares
# them with python/plait/_core.pyi; --write puts them there.
set -euo pipefail
venv=$1 write=${2:-}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
. "$venv/bin/activate"
maturin generate-stubs --quiet --profile quick --out "$folder"
if [ "$write" = --write ]; then
    cp "$folder/plait/_core.pyi" python/plait/_core.pyi
elif ! diff -u python/plait/_core.pyi "$folder/plait/_core.pyi"; then
    echo "python/plait/_core.pyi does not fit the Rust source: run 'make stubs' and commit it." >&2
    exit 1
fi

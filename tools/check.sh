#!/usr/bin/env bash
# check.sh [--full]: every check and test, on every interpreter that this machine has.
# Sets up what it needs (Python packages in .venvs/); --full adds the slow tests.
set -euo pipefail
cd "$(dirname "$0")/.."
full=${1:-}
select=(-m "not slow")
others=(-m "not slow and not once")
[ "$full" = --full ] && select=(--timeout 1800) && others=(--timeout 1800)
skipped=()
python=${PYTHON:-python3}
dev=.venvs/dev

step() { printf '\n== %s\n' "$*"; }

tools/nginx.sh

step "setting up $dev"
make --no-print-directory "PYTHON=$python" "$dev/.installed"

step "formatting and lints"
make --no-print-directory "PYTHON=$python" lint

step "stubs"
tools/stubs.sh "$dev"
"$dev/bin/python" -m mypy.stubtest plait._core --concise --ignore-disjoint-bases \
    --allowlist tests/typing/stubtest-allowlist.txt

step "Rust engines, without an interpreter"
cargo test --quiet --profile quick --no-default-features

step "Models of what is concurrent, with every interleaving"
cargo test --quiet --profile quick --no-default-features --features model model

step "Python $("$dev/bin/python" --version)"
"$dev/bin/python" -m pytest "${select[@]}"

# The rest get a wheel and what they need to run the tests, from wheels only.
run_on() { # run_on INTERPRETER NAME
    local venv=.venvs/$2 wheels
    step "Python $2 ($1)"
    tools/venv.sh "$1" "$venv"
    wheels=$(mktemp -d)
    "$dev/bin/maturin" build --quiet --profile quick --interpreter "$1" --out "$wheels"
    "$venv/bin/pip" install --quiet --only-binary :all: --requirement tests/requirements.txt
    "$venv/bin/pip" install --quiet --only-binary :all: --force-reinstall --no-deps "$wheels"/*.whl
    rm -rf "$wheels"
    "$venv/bin/python" -m pytest "${others[@]}"
}

# A python3.13 on the PATH may be a shim that fails, so each candidate is run.
find_python() { # find_python 3.13
    local prefix candidate
    prefix=$(pyenv prefix "$1" 2>/dev/null || true)
    for candidate in ${prefix:+"$prefix/bin/python3"} "python$1"; do
        if [ "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$1" ]; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    return 1
}

default=$("$dev/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
for version in 3.11 3.12 3.13; do
    [ "$version" = "$default" ] && continue
    if found=$(find_python "$version"); then
        run_on "$found" "$version"
    else
        skipped+=("Python $version: none found that runs")
    fi
done

# Free-threaded Python is fetched by a script that lies beside some checkouts.
getter=../shared/pythons/get-python.sh
if [ -e "$getter" ]; then
    root=${PY_ROOT:-/opt/pythons}
    if PY_ROOT=$root bash "$getter" 3.14t; then
        run_on "$root/3.14t/bin/python3" 3.14t
    else
        skipped+=("Python 3.14t: $getter could not provide it")
    fi
else
    skipped+=("Python 3.14t (free-threaded): no $getter beside this checkout")
fi

printf '\nAll checks passed.\n'
for reason in "${skipped[@]}"; do printf 'Skipped: %s\n' "$reason"; done

#!/usr/bin/env bash
# nginx.sh: installs Debian's nginx-light for the tests of plait.aio, where that may be done: as
# root, with apt, and with packages to be had. Says nothing and never fails; without nginx those
# tests are skipped, with this as the reason. It is asked once: a marker keeps a failure in mind.
set -u
PATH=$PATH:/usr/sbin
marker=${TMPDIR:-/tmp}/plait-nginx-was-asked-for
command -v nginx >/dev/null 2>&1 && exit 0
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 && [ ! -e "$marker" ] || exit 0
touch "$marker" 2>/dev/null || exit 0
install() {
    # It is for the tests alone: no service is started.
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 timeout 120 apt-get install --quiet --yes \
        --no-install-recommends -o Acquire::Retries=0 -o Acquire::http::Timeout=10 nginx-light
}
exec >/dev/null 2>&1 </dev/null
# Debian's own switch: services of packages aren't started while this says so.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
install || { timeout 60 apt-get update --quiet -o Acquire::Retries=0 -o Acquire::http::Timeout=10 && install; }
exit 0

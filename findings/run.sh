#!/usr/bin/env bash
# Runs the findings that are named, or all, one after the other; fails when one has changed.
set -uo pipefail
cd "$(dirname "$0")" || exit 1

if [ $# = 0 ]; then
    set -- *.sh
fi
changed=()
for script in "$@"; do
    case $script in common.sh | run.sh) continue ;; esac
    echo "== ${script%.sh}"
    bash "${script%.sh}.sh" || changed+=("${script%.sh}")
done
if [ ${#changed[@]} -gt 0 ]; then
    echo "changed: ${changed[*]}"
    exit 1
fi

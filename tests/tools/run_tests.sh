#!/usr/bin/env bash
# Runs every tox environment, then says by name what was skipped. With CI set, a skipped service is a failure.
set -u
bin=$1
cd "$(dirname "$0")/../.."
log=.cache/test-output.txt
"$bin/tox" -q 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
echo "--- skipped, by name ---"
if grep -hE '^SKIPPED' "$log"; then
    if [ -n "${CI:-}" ] && grep -E '^SKIPPED' "$log" | grep -qv 'not part of this project'; then
        echo "a service that continuous integration should have was skipped"
        status=1
    fi
else
    echo "nothing"
fi
passed=$(grep -oE '[0-9]+ passed' "$log" | awk '{sum += $1} END {print sum + 0}')
failed=$(grep -oE '[0-9]+ failed' "$log" | awk '{sum += $1} END {print sum + 0}')
echo "total: $passed passed, $failed failed"
exit "$status"

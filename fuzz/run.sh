#!/usr/bin/env bash
# Fuzzes some targets, or all, one after the other: fuzz/run.sh [SECONDS [TARGET…]], 60 seconds each if nothing is said.
# Needs a nightly toolchain, a C++ compiler and cargo-fuzz. A line for each target: runs, runs a second, edges reached.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list)
# The crate forbids unsafe code, so the address sanitizer would cost half the speed and find nothing.
cargo +nightly fuzz build -s none
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0
for target in "${targets[@]}"; do
    options=(-max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1)
    if ! cargo +nightly fuzz run -s none "$target" -- "${options[@]}" >"$log" 2>&1; then
        echo "$target: found something" >&2
        grep -E -A2 'panicked|ERROR: libFuzzer|Reproduce with' "$log" >&2 || true
        failed=1
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
    edges=$(grep -oE 'cov: [0-9]+' "$log" | tail -1 | cut -d' ' -f2)
    printf '%-10s %12s runs %8s/s %6s edges\n' "$target" "${runs:-?}" "${rate:-?}" "${edges:-?}"
done
exit $failed

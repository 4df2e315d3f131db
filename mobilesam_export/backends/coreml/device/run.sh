#!/bin/sh
# Time the packages of this folder with XCTest, on this Mac or on a connected iPhone or iPad.
# Usage: ./run.sh [results.txt] ['platform=iOS,name=NAME OF THE DEVICE']
set -eu
results=${1:-results.txt}
case $results in /*) ;; *) results=$(pwd)/$results ;; esac
destination=${2:-platform=macOS}
name=$(sysctl -n machdep.cpu.brand_string)
[ "$destination" = platform=macOS ] || name=${destination##*name=}
cd "$(dirname "$0")"

command -v xcodebuild >/dev/null || { echo "Xcode is not installed" >&2; exit 1; }
{
  echo "# mobilesam-export device results 1"
  echo "# platform: apple"
  printf '# subject: %s\n' @QUOTED_SUBJECT@
  printf '# device: %s\n' "$name"
} > "$results.part"
# A test that fails is in the log, which is kept; so is its exit code.
failed=0
xcodebuild test -scheme MobileSAMLatency -destination "$destination" >> "$results.part" 2>&1 || failed=$?
mv "$results.part" "$results"
if [ "$failed" != 0 ]; then
  echo "xcodebuild failed; $results ends with:" >&2
  tail -n 3 "$results" >&2
  exit "$failed"
fi
echo "done: mobilesam-export benchmark --import $results"

#!/bin/sh
# Time the packages of this folder with XCTest, on this Mac or on a connected iPhone or iPad.
# Usage: ./run.sh [results.txt]
#        ./run.sh results.txt 'platform=iOS,name=NAME OF THE DEVICE' APP.xcodeproj SCHEME
# iOS runs tests inside an app only: README.md says how to make the app's project.
set -eu
absolute() { case $1 in /*) printf '%s' "$1" ;; *) printf '%s/%s' "$(pwd)" "$1" ;; esac; }
results=$(absolute "${1:-results.txt}")
destination=${2:-platform=macOS}
if [ "$destination" != platform=macOS ] && [ $# -lt 4 ]; then
  echo "iOS runs tests inside an app only: add the app's .xcodeproj and its scheme (see README.md)" >&2
  exit 2
fi
project=${3:+$(absolute "$3")}
scheme=${4:-MobileSAMLatency}
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
set -- test -scheme "$scheme" -destination "$destination"
[ -z "$project" ] || set -- "$@" -project "$project"
xcodebuild "$@" >> "$results.part" 2>&1 || failed=$?
mv "$results.part" "$results"
if [ "$failed" != 0 ]; then
  echo "xcodebuild failed; $results ends with:" >&2
  tail -n 3 "$results" >&2
  exit "$failed"
fi
echo "done: mobilesam-export benchmark --import $results"

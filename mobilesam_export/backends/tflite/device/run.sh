#!/bin/sh
# Time the files of this folder on the Android device that adb sees, with LiteRT's benchmark_model.
# Usage: ./run.sh path/to/benchmark_model [results.txt]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tool=${1:?"usage: ./run.sh path/to/benchmark_model [results.txt]"}
results=${2:-results.txt}
remote=/data/local/tmp/mobilesam-export
threads=${THREADS:-4}

command -v adb >/dev/null || { echo "adb is not installed (Android SDK platform tools)" >&2; exit 1; }
adb get-state >/dev/null || { echo "adb sees no device; connect one and allow debugging" >&2; exit 1; }
adb shell mkdir -p "$remote"
adb push "$tool" "$remote/benchmark_model" >/dev/null
adb shell chmod +x "$remote/benchmark_model"

property() { adb shell getprop "$1" | tr -d '\r'; }
part="$results.part"
{
  echo "# mobilesam-export device results 1"
  echo "# platform: android"
  printf '# subject: %s\n' @QUOTED_SUBJECT@
  printf '# device: %s %s, %s\n' "$(property ro.product.manufacturer)" "$(property ro.product.model)" "$(property ro.board.platform)"
  printf '# threads: %s\n' "$threads"
} > "$part"
failed=0
for component in encoder decoder; do
  adb push "$here/$component.tflite" "$remote/" >/dev/null
  for place in cpu gpu; do
    flags="--num_threads=$threads"
    # Without these, what the GPU does not take runs on the CPU, and the time is of both.
    if [ "$place" = gpu ]; then flags="--use_gpu=true --use_cpu=false --require_full_delegation=true"; fi
    echo "timing the $component on the $place ..." >&2
    echo "# section: $component $place" >> "$part"
    # A device without a usable GPU fails here; the log says so and is kept.
    adb shell "$remote/benchmark_model" --graph="$remote/$component.tflite" $flags \
      --warmup_runs=5 --num_runs=100 --max_secs=60 < /dev/null > "$part.log" 2>&1 || failed=1
    tr -d '\r' < "$part.log" >> "$part"
    rm "$part.log"
    sleep "${COOL_DOWN_S:-20}" # phones slow down when warm
  done
done
mv "$part" "$results"
echo "done: mobilesam-export benchmark --import $results"
if [ "$failed" != 0 ]; then
  echo "benchmark_model failed at least once: the import names each section without a time" >&2
  exit 1
fi

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

part="$results.part"
{
  echo "# mobilesam-export device results 1"
  echo "# platform: android"
  echo "# subject: @SUBJECT@"
  echo "# device: $(adb shell getprop ro.product.manufacturer | tr -d '\r') $(adb shell getprop ro.product.model | tr -d '\r'), $(adb shell getprop ro.board.platform | tr -d '\r')"
} > "$part"
for component in encoder decoder; do
  adb push "$here/$component.tflite" "$remote/" >/dev/null
  for place in cpu gpu; do
    if [ "$place" = gpu ]; then flags="--use_gpu=true"; else flags="--num_threads=$threads --use_xnnpack=true"; fi
    echo "timing the $component on the $place ..." >&2
    echo "# section: $component $place" >> "$part"
    # A device without a usable GPU fails here; the log says so and is kept.
    adb shell "$remote/benchmark_model" --graph="$remote/$component.tflite" $flags \
      --warmup_runs=5 --num_runs=100 --max_secs=60 < /dev/null 2>&1 | tr -d '\r' >> "$part" || true
    sleep "${COOL_DOWN_S:-20}" # phones slow down when warm
  done
done
mv "$part" "$results"
echo "done: mobilesam-export benchmark --import $results"

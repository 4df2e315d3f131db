#!/bin/sh
# Time the files of this folder on the Android device that adb sees, with ExecuTorch's
# executor_runner, and compare its answers with the golden vectors.
# Usage: ./run.sh path/to/executor_runner [results.txt]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tool=${1:?"usage: ./run.sh path/to/executor_runner [results.txt]"}
results=${2:-results.txt}
remote=/data/local/tmp/mobilesam-export
threads=${THREADS:-4}

command -v adb >/dev/null || { echo "adb is not installed (Android SDK platform tools)" >&2; exit 1; }
adb get-state >/dev/null || { echo "adb sees no device; connect one and allow debugging" >&2; exit 1; }
adb shell mkdir -p "$remote"
adb push "$tool" "$remote/executor_runner" >/dev/null
adb shell chmod +x "$remote/executor_runner"

property() { adb shell getprop "$1" | tr -d '\r'; }
numbers() { LC_ALL=C od -A n -v -t f4 "$1" | tr -s ' ' '\n' | sed '/^$/d'; }
# Files of float32, expected and found; least PSNR in dB; most that a value may be off.
compare() {
  numbers "$1" > "$part.expected"
  numbers "$2" > "$part.found"
  paste "$part.expected" "$part.found" | LC_ALL=C awk -v least="$3" -v most="$4" '
    NF != 2 || $2 !~ /^[-+.0-9e]+$/ { odd = NR; exit }
    {
      off = $1 < $2 ? $2 - $1 : $1 - $2
      size = $1 < 0 ? -$1 : $1
      if (off > largest) largest = off
      if (size > peak) peak = size
      squares += off * off
    }
    END {
      if (odd || !NR) { print "wrong: value " odd + 0 " is no number or is not there"; exit }
      psnr = squares ? 10 * log(peak * peak * NR / squares) / log(10) : 999
      if (psnr >= least && largest <= most) print "right"
      else printf "wrong: off by up to %g, PSNR %.1f dB\n", largest, psnr
    }'
  rm "$part.expected" "$part.found"
}

part="$results.part"
{
  echo "# mobilesam-export device results 1"
  echo "# platform: android-executorch"
  printf '# subject: %s\n' @QUOTED_SUBJECT@
  printf '# device: %s %s, %s\n' "$(property ro.product.manufacturer)" "$(property ro.product.model)" "$(property ro.board.platform)"
  printf '# threads: %s\n' "$threads"
} > "$part"
failed=0
for component in encoder decoder; do
  case $component in
    encoder) names="@ENCODER_INPUTS@"; output=@ENCODER_OUTPUT@; limits="@PSNR@ 1e30" ;;
    decoder) names="@DECODER_INPUTS@"; output=@DECODER_OUTPUT@; limits="-1e30 @LOGITS@" ;;
  esac
  inputs=
  adb push "$here/$component.pte" "$remote/" >/dev/null
  for name in $names; do
    adb push "$here/golden/$name" "$remote/" >/dev/null
    inputs="$inputs${inputs:+,}$remote/$name"
  done
  found="$remote/$component-$output.bin"
  adb shell rm -f "$found" # of an earlier run
  echo "timing the $component ..." >&2
  echo "# section: $component @PLACE@" >> "$part"
  # The first run is the cold one, @WARM_UP@ more warm up; the other @RUNS@ count.
  adb shell "$remote/executor_runner" --model_path="$remote/$component.pte" --method_name=forward \
    --inputs="$inputs" --output_file="$remote/$component" --print_output=none \
    --num_executions=@EXECUTIONS@ --cpu_threads="$threads" < /dev/null > "$part.log" 2>&1 || failed=1
  tr -d '\r' < "$part.log" >> "$part"
  rm "$part.log"
  if adb pull "$found" "$part.bin" >/dev/null 2>&1; then
    # shellcheck disable=SC2086 # two limits
    echo "# answers: $(compare "$here/golden/$component.float32" "$part.bin" $limits)" >> "$part"
    rm "$part.bin"
  fi
  sleep "${COOL_DOWN_S:-20}" # phones slow down when warm
done
mv "$part" "$results"
echo "done: mobilesam-export benchmark --import $results"
if [ "$failed" != 0 ]; then
  echo "executor_runner failed at least once: the import names each section without a time" >&2
  exit 1
fi

#!/usr/bin/env bash
# Writes the transcript in README.md anew: runs the commands below and puts them, with what they print, between the markers.
#
#     tools/readme/transcript.sh
#
# Times and paths in it are those of the machine that ran it.
set -euo pipefail
cd "$(dirname "$0")/../.."

commands=(
    "cargo run -q --release -- tune graphs/svd.yaml --hw rtx3090"
    "cargo run -q --release -- run graphs/svd-mini.yaml --input image=examples/coffee.png -o out.mp4"
)

export ORT_DISABLE_TELEMETRY=1 NO_COLOR=1
cargo build -q --release
text=$(mktemp)
trap 'rm -f "$text"' EXIT
{
    echo '```console'
    for command in "${commands[@]}"; do
        echo "\$ $command"
        # What is drawn on a terminal only is not drawn here; a failing command fails the script.
        bash -c "$command" 2>&1 | sed "s|$PWD/||g; s|$HOME|~|g"
        echo
    done | sed '$d'
    echo '```'
    echo
    processor=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo 2>/dev/null | head -1 || true)
    echo "(On $(nproc 2>/dev/null || echo some) cores${processor:+ of $processor}.)"
} >"$text"

awk -v file="$text" '
    /<!-- transcript:begin -->/ { print; print ""; while ((getline line < file) > 0) print line; print ""; skip = 1 }
    /<!-- transcript:end -->/ { skip = 0 }
    !skip && !/<!-- transcript:begin -->/ { print }
' README.md >README.md.new
mv README.md.new README.md
rm -f out.mp4 out.mp4.report.json

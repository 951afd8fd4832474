#!/bin/sh
# The whole way on one CPU: checkpoint in miniature, export, compile, verify, generate, bench.
# Usage: demo.sh DIRECTORY; needs `toolchain` and `runtime` on the PATH.
set -eu
dir=$1

rm -rf "$dir"
mkdir -p "$dir"
toolchain miniature "$dir/checkpoint"
toolchain export "$dir/checkpoint" -o "$dir/exported"
toolchain compile "$dir/exported" -o "$dir/int4" --weights int4
toolchain verify "$dir/exported" "$dir/int4" --model "$dir/checkpoint" \
    --ids "$dir/checkpoint/dialogue_ids.json"

ask() {
    printf '\n> %s\n' "$1"
    runtime generate "$dir/int4" "$1"
}
ask "北京是哪个国家的首都？"
ask "What is an edge box?"
printf '\n'
toolchain bench "$dir/int4"

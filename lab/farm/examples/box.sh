#!/usr/bin/env bash
# One machine with several GPUs: a ComfyUI on each, and no Ray to start or stop by hand.
set -euo pipefail
results=$(realpath "${1:?usage: box.sh RESULTS, a folder that run.py evaluate plan made}")
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
python3 run.py evaluate generate "$results" --ray local
# Two ComfyUIs share a GPU whose memory has room for both: --ray local --per-gpu 2

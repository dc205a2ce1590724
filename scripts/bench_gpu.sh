#!/usr/bin/env bash
# On a machine with a GPU: the tests that need one, then figures for docs/benchmarks.md, all kept in $OUT.
#   scripts/bench_gpu.sh                     with .venv (make setup; pip install 'agentrl[vllm]')
#   PYTHON=python3 scripts/bench_gpu.sh      with a torch and a vLLM of the machine's own, also without a network
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
OUT=${OUT:-outputs/gpu}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
mkdir -p "$OUT"
failed=0

step() {  # name, command: its words to the screen and to a file; a failure does not keep the others from running
  echo "== $1"
  local name=$1
  shift
  "$@" 2>&1 | tee "$OUT/$name.txt"
  [ "${PIPESTATUS[0]}" -eq 0 ] || { echo "== $name FAILED"; failed=1; }
}

{
  date -u
  git rev-parse HEAD 2> /dev/null
  nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
  "$PYTHON" -c 'import torch, transformers; print("torch", torch.__version__, "transformers", transformers.__version__)'
  "$PYTHON" -c 'import vllm; print("vllm", vllm.__version__)'
} > "$OUT/machine.txt" 2>&1
cat "$OUT/machine.txt"
step tests "$PYTHON" -m pytest -m gpu -q -p no:cacheprovider
step bench_gpu "$PYTHON" scripts/bench_gpu.py
step bench_transfer "$PYTHON" scripts/bench_transfer.py --workers 1
step bench_transfer_vllm "$PYTHON" scripts/bench_transfer.py --workers 1 --engine vllm
step bench_transfer_lora "$PYTHON" scripts/bench_transfer.py --workers 1 --engine vllm --rank 16
step bench_learner "$PYTHON" scripts/bench_learner_gpu.py
step rollout_vllm "$PYTHON" -m agentrl train method=vspo env=webshop engine=vllm engine.sleep=true steps=12 eval.tasks=50 run_dir="$OUT/vspo"
exit $failed

#!/usr/bin/env bash
# Tell Spark which GPUs this node has: spark.executor.resource.gpu.discoveryScript (standalone workers: spark.worker...).
# One line of JSON on standard output: {"name": "gpu", "addresses": ["0", "1"]}. An address is the GPU's index, or, where
# GPUs are split (MIG), the UUID of each part: both are what CUDA_VISIBLE_DEVICES takes. CUDA sees one part a process.
set -euo pipefail

fail() {
  echo "get_gpus.sh on $(hostname): $*" >&2
  exit 1
}

command -v nvidia-smi > /dev/null || fail "expected nvidia-smi in the PATH, found none. Install NVIDIA's driver on this node, or ask for no GPU (leave out spark.executor.resource.gpu.amount)."
listed=$(nvidia-smi -L 2>&1) || fail "nvidia-smi -L failed: ${listed}. Mend NVIDIA's driver on this node."

addresses=()
split=no
while IFS= read -r line; do
  if [[ $line =~ ^[[:space:]]+MIG\ .*\(UUID:\ (MIG-[^\)]+)\) ]]; then
    # the parts stand below their GPU, which is no place for a task any more
    if [[ $split == no ]]; then unset 'addresses[-1]'; fi
    split=yes
    addresses+=("${BASH_REMATCH[1]}")
  elif [[ $line =~ ^GPU\ ([0-9]+): ]]; then
    split=no
    addresses+=("${BASH_REMATCH[1]}")
  fi
done <<< "$listed"

((${#addresses[@]} > 0)) || fail "expected lines such as 'GPU 0: NAME (UUID: ...)' of nvidia-smi -L, found: ${listed:-nothing}."
printf -v quoted '"%s", ' "${addresses[@]}"
echo "{\"name\": \"gpu\", \"addresses\": [${quoted%, }]}"

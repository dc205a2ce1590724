"""The starting examples for Slurm and Kubernetes: they parse, what they run composes, Slurm's shell does its part."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from agentrl import config

ROOT = Path(__file__).resolve().parents[2]
SLURM, KUBERAY = ROOT / "scripts/cluster/slurm.sbatch", ROOT / "scripts/cluster/kuberay.yaml"

STUBS = {
    "srun": 'while [[ "$1" == --* ]]; do shift; done; exec "$@"',
    "scontrol": "printf 'first\\nsecond\\n'",
    "hostname": "echo 10.0.0.1",
    "sleep": "exit 0",
    "ray": 'echo "ray ${CUDA_VISIBLE_DEVICES:-all} $*" >> "$LOG"; exec tail -f /dev/null',
    "agentrl": 'echo "agentrl $CUDA_VISIBLE_DEVICES $*" >> "$LOG"; exit "$CODE"',
}


def composes(words: list[str]) -> config.Config:
    cfg = config.compose("train", words)
    config.check(cfg)
    return cfg


def test_kuberay_parses_and_its_parts_fit() -> None:
    job = yaml.safe_load(KUBERAY.read_text(encoding="utf-8"))
    cluster, words = job["spec"]["rayClusterSpec"], shlex.split(job["spec"]["entrypoint"])
    assert words[:2] == ["agentrl", "train"]
    cfg = composes(words[2:])
    assert cfg.cluster.workers == sum(group["replicas"] for group in cluster["workerGroupSpecs"])
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert re.search(r"^ray==(.*)$", pins, re.MULTILINE)[1] == cluster["rayVersion"]  # type: ignore[index]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_slurm_is_bash() -> None:
    assert os.access(SLURM, os.X_OK)
    subprocess.run(["bash", "-n", str(SLURM)], check=True)


@pytest.mark.parametrize("code", [0, 2])
def test_slurm_places_learner_and_workers(code: int, tmp_path: Path) -> None:
    """Two nodes of four GPUs, with stand-ins for what a cluster has: the first GPU learns, seven sample."""
    (tmp_path / "bin").mkdir()
    for name, text in STUBS.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
        path.chmod(0o755)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").touch()
    env = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "LOG": str(tmp_path / "log"), "CODE": str(code),
        "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_NODELIST": "x", "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "4", "SLURM_JOB_ID": "17",
    }  # fmt: skip
    done = subprocess.run(["bash", str(SLURM), "seed=1"], env=env, timeout=60, check=False)
    assert done.returncode == code
    said = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    learner = next(line for line in said if line.startswith("agentrl")).split()
    assert learner[1:3] == ["0", "train"]
    cfg = composes(learner[3:])
    assert (cfg.cluster.workers, cfg.cluster.address, cfg.seed) == (7, "10.0.0.1:6379", 1)
    assert cfg.run_dir == "outputs/slurm-17"
    places = {line.split()[1]: line for line in said if line.startswith("ray")}
    assert places.keys() <= {"1,2,3", "all"}  # Ray may be ended before it has said a word
    if "1,2,3" in places:
        assert "--head --node-ip-address=10.0.0.1 --port=6379 --num-gpus=3" in places["1,2,3"]
    if "all" in places:
        assert "--address=10.0.0.1:6379 --num-gpus=4" in places["all"]

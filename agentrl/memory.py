"""How much of a GPU a run takes, before anything runs: arithmetic over the model's shape and the config.

Weights, moments, gradients and the cache of keys and values are exact; activations, logits and what a process needs
besides are estimates, rather too high. Where learner and engine share a GPU, what counts is what lies there at the same
time: all of it, or with ``engine.sleep`` the learner's share and either what learning or what sampling takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agentrl.ranges import require_least

MIB, GIB = 2**20, 2**30
RESERVE = int(1.5 * GIB)  # CUDA's context and kernels, CUDA graphs, gaps between tensors: estimate
BATCHED_TOKENS = 16384  # that vLLM reads at once on a large GPU, its default there
LOGITS = 3  # arrays [tokens, vocabulary] in float32 that are there at once: logits, their logarithms, and a gradient
RESIDENT = ("weights", "optimiser", "reference")  # of the learner: there all the time


@dataclass(frozen=True)
class Explain:
    """The schema of ``explain`` in conf/train.yaml."""

    gpu_gib: float

    def __post_init__(self) -> None:
        require_least(self, "explain", gpu_gib=0)


@dataclass(frozen=True)
class Shape:
    """A model's sizes. ``weights``: all, tied ones once, but for ``adapter``, those of its LoRA layers."""

    layers: int
    width: int
    inner: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    weights: int
    adapter: int

    @property
    def per_token(self) -> int:
        """Numbers that one layer computes for each token and keeps for the backward pass."""
        return 10 * self.width + 3 * self.inner


@dataclass(frozen=True)
class Learning:
    """What the learner is told. ``weight_bytes`` and ``compute_bytes``: of one number; ``reference``: is there a KL
    term?"""

    weight_bytes: int
    compute_bytes: int
    checkpointing: bool
    micro_tokens: int
    chunk_tokens: int
    reference: bool

    def parts(self, shape: Shape) -> dict[str, int]:
        """Bytes. Adapters are float32 whatever their base is; AdamW keeps two moments in the dtype of the weights."""
        trained = shape.adapter * 4 or shape.weights * self.weight_bytes
        kept = 1 if self.checkpointing else shape.layers
        numbers = self.micro_tokens * (kept * shape.per_token + shape.layers * shape.width)
        return {
            "weights": shape.weights * self.weight_bytes + shape.adapter * 4,
            "optimiser": 2 * trained,
            "reference": trained if self.reference else 0,
            "gradients": trained,
            "casts": shape.weights * self.compute_bytes if self.compute_bytes < self.weight_bytes else 0,
            "activations": numbers * self.compute_bytes,
            "logits": LOGITS * min(self.chunk_tokens, self.micro_tokens) * shape.vocabulary * 4,
        }


@dataclass(frozen=True)
class Serving:
    """What the engine is told. ``cache``: bytes of keys and values, 0 = what ``share`` of the GPU leaves."""

    weight_bytes: int
    cache: int
    share: float
    max_batch: int
    context_tokens: int

    def parts(self, shape: Shape, gpu: int) -> dict[str, int]:
        """Bytes; ``cache`` below 0 says what is missing."""
        weights = (shape.weights + shape.adapter) * self.weight_bytes
        work = LOGITS * self.max_batch * shape.vocabulary * 4 + BATCHED_TOKENS * shape.per_token * self.weight_bytes
        return {"weights": weights, "work": work, "cache": self.cache or int(self.share * gpu) - weights - work}

    def tokens(self, shape: Shape, cache: int) -> int:
        """Tokens whose keys and values fit into ``cache`` bytes."""
        return max(0, cache) // (2 * shape.layers * shape.kv_heads * shape.head_dim * self.weight_bytes)


@dataclass(frozen=True)
class Plan:
    """Learner and engine on one GPU, in bytes; ``episodes``: those that the engine is given at once, at most."""

    gpu: int
    learner: Mapping[str, int]
    engine: Mapping[str, int]
    tokens: int
    context_tokens: int
    episodes: int
    sleep: bool

    @property
    def resident(self) -> int:
        """The learner's share that never leaves."""
        return sum(self.learner[name] for name in RESIDENT)

    @property
    def awake(self) -> int:
        """Most at one time, the engine staying where it is."""
        return sum(self.learner.values()) + self._engine + RESERVE

    @property
    def asleep(self) -> int:
        """Most at one time, the engine making room while the learner learns."""
        return max(sum(self.learner.values()), self.resident + self._engine) + RESERVE

    @property
    def fits(self) -> bool:
        """With ``engine.sleep`` as it is."""
        return self.engine["cache"] > 0 and (self.asleep if self.sleep else self.awake) <= self.gpu

    @property
    def at_once(self) -> int:
        """Episodes of full length whose keys and values are there together; more wait."""
        return self.tokens // self.context_tokens

    @property
    def _engine(self) -> int:
        return sum(self.engine.values())

    def advice(self) -> str:
        """Which knob to turn, for the reason that counts most; empty where none needs to be."""
        if self.engine["cache"] <= 0:
            return "the engine's own weights leave no room for keys and values: raise engine.gpu_memory"
        if self.fits and self.at_once < 1:
            return "not one episode of full length fits the cache: raise engine.kv_cache_mib or engine.gpu_memory"
        if self.fits:
            return ""
        if not self.sleep and self.asleep <= self.gpu:
            return "engine.sleep=true: then it fits"
        sampling = self.resident + self._engine + RESERVE
        if sampling > self.gpu and self.engine["cache"] > sampling - self.gpu:
            return (
                "lower engine.gpu_memory (or engine.kv_cache_mib): the cache is what can shrink, and engine.sleep=true"
            )
        return max(KNOBS, key=lambda names: sum(self.learner[name] for name in names[0]))[1]

    def words(self) -> list[str]:
        """For people."""
        gpu = f"of {self.gpu / GIB:g} GiB"
        verdict = "fits" if self.fits else "DOES NOT FIT"
        lines = [
            f"GPU         learner {listed(self.learner)}",
            f"            engine  {listed(self.engine)}; the cache holds {self.tokens:,} tokens = {self.at_once:,} "
            f"episodes of {self.context_tokens:,} tokens at once (a batch has up to {self.episodes:,})",
            f"            at most {self.awake / GIB:.1f} GiB {gpu} at one time, {self.asleep / GIB:.1f} with "
            f"engine.sleep=true; engine.sleep={str(self.sleep).lower()}: {verdict}",
        ]
        advice = self.advice()
        return [*lines, f"            {advice}"] if advice else lines


#: parts of the learner that one thing makes smaller.
KNOBS = (
    (
        ("weights", "optimiser", "reference", "gradients", "casts"),
        "model.lora_rank=16 learner=lora (or a smaller model)",
    ),
    (("activations",), "model.gradient_checkpointing=true, or a lower learner.micro_tokens"),
    (("logits",), "a lower learner.chunk_tokens"),
)


def listed(parts: Mapping[str, int]) -> str:
    """``weights 1.1 GiB, cache 2.0``, parts of nothing left out."""
    return ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts.items() if size) + " GiB"


def plan(shape: Shape, learning: Learning, serving: Serving, gpu: int, episodes: int, sleep: bool) -> Plan:
    """One GPU of ``gpu`` bytes for both. ``episodes``: played at the same time by one batch."""
    engine = serving.parts(shape, gpu)
    tokens = serving.tokens(shape, engine["cache"])
    wanted = min(episodes, serving.max_batch)
    return Plan(gpu, learning.parts(shape), engine, tokens, serving.context_tokens, wanted, sleep)

"""The sampler in plain PyTorch: any causal language model, CPU or GPU, no other package needed.

Equal prompts are read once, finished rows are dropped, and every request draws from its own stream of uniforms, so that
a completion depends on its prompt, its seed and the weights alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch

from agentrl.device import resolve_device
from agentrl.digest import Digest, weights_digest
from agentrl.engine.base import Completion, Request, Sampling, in_parts
from agentrl.engine.checks import fitting, require_room
from agentrl.engine.draw import choose, uniforms
from agentrl.engine.forward import Forward
from agentrl.engine.lean import LeanForward, supports
from agentrl.engine.plain import PlainForward
from agentrl.engine.together import Together
from agentrl.errors import EngineError
from agentrl.watchdog import beat

KEEP = 0.8  # finished rows are dropped once the share of running ones is at most this: dropping copies caches
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Source(Protocol):
    """Where an engine's first weights come from (:class:`agentrl.model.Pretrained`)."""

    def module(self, device: str, dtype: torch.dtype) -> Any:
        """A fresh Hugging Face causal language model."""
        ...


@dataclass(frozen=True)
class Torch:
    """``dtype``: auto (float32 on a CPU, bfloat16 on a GPU), float32, bfloat16. ``max_batch``: rows decoded at once."""

    dtype: str
    max_batch: int

    def __post_init__(self) -> None:
        if self.dtype not in ("auto", *DTYPES):
            raise ValueError(f"engine.dtype: got '{self.dtype}', expected auto, {' or '.join(DTYPES)}")
        if self.max_batch < 1:
            raise ValueError(f"engine.max_batch: got {self.max_batch}, expected at least 1 row")

    def start(self, source: Source, device: str) -> TorchEngine:
        """An engine with its own copy of the pretrained weights.

        ``device``: auto, cpu, cuda or cuda:N. Raises ConfigError.
        """
        choice = (
            self.dtype if self.dtype != "auto" else "float32" if resolve_device(device).type == "cpu" else "bfloat16"
        )
        return TorchEngine(source.module(device, DTYPES[choice]), self.max_batch)


class TorchEngine:
    """An :class:`agentrl.engine.base.Engine` around a Hugging Face module, whose weights it takes over."""

    def __init__(self, module: Any, max_batch: int) -> None:
        self._forward: Forward = LeanForward(module) if supports(module) else PlainForward(module)
        self._max_batch = max_batch
        self._context = int(module.config.get_text_config().max_position_embeddings)
        self._vocabulary = int(module.config.get_text_config().vocab_size)
        self._version = 0
        self._checksum: Digest | None = None
        self.device: torch.device = module.device
        self.dtype: torch.dtype = module.dtype

    @property
    def version(self) -> int:
        return self._version

    @property
    def adapter_only(self) -> bool:
        """False: its own copy of the weights is whole."""
        return False

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Continue every prompt; answers in the order of the requests. Raises EngineError."""
        for request in requests:
            self._check(request)
        found: dict[int, Completion] = {}
        for part in in_parts(requests, self._max_batch):
            found.update(zip(part, self._batch([requests[i] for i in part], sampling), strict=True))
        return [found[i] for i in range(len(requests))]

    def stream(self, sampling: Sampling) -> Together:
        """Requests one by one; those that wait are sampled together, as ``generate`` would."""
        return Together(self.generate, sampling, self._max_batch)

    def load(self, weights: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Copy weights by checkpoint name. Raises EngineError on an unknown, missing or misshapen one."""
        self._checksum = None
        tensors = self._forward.tensors
        for name, tensor in fitting(weights, {name: tuple(target.shape) for name, target in tensors.items()}):
            tensors[name].copy_(tensor)
        self._version = version

    def checksum(self) -> Digest:
        """Digest of the weights in use (:func:`agentrl.digest.weights_digest` in the engine's dtype)."""
        if self._checksum is None:
            self._checksum = weights_digest(self._forward.tensors.items(), self.dtype)
        return self._checksum

    @torch.inference_mode()
    def logprobs(self, sequences: Sequence[tuple[int, ...]]) -> list[list[float]]:
        """Untempered logprobs of every token but the first of each sequence, teacher-forced.

        One sequence at a time: full logits of a real vocabulary are large.
        """
        return [self._score(sequence) for sequence in sequences]

    def _score(self, sequence: tuple[int, ...]) -> list[float]:
        beat("engine", "scoring a sequence")
        ids = torch.tensor([sequence], device=self.device)
        logits = self._forward.logits(ids)[:, :-1].float()
        found: list[float] = torch.log_softmax(logits, dim=-1).gather(-1, ids[:, 1:, None])[0, :, 0].tolist()
        return found

    def rest(self) -> None:
        """It has nothing to give back."""

    def close(self) -> None:
        """Nothing to release: memory goes with the object."""

    def _check(self, request: Request) -> None:
        require_room(request, self._context, "lower")
        if not 0 <= min(request.prompt_ids) <= max(request.prompt_ids) < self._vocabulary:
            raise EngineError(
                f"engine: the prompt holds token id {max(request.prompt_ids)}, the model's vocabulary has "
                f"{self._vocabulary}; tokenizer and model do not belong together"
            )

    def _batch(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Decode up to ``max_batch`` requests together. They come sorted by prompt."""
        prompts = list(dict.fromkeys(request.prompt_ids for request in requests))
        place = {prompt: index for index, prompt in enumerate(prompts)}
        rows = [place[request.prompt_ids] for request in requests]
        decoding, logits = self._forward.start(prompts, rows)
        logits = logits[torch.tensor(rows, device=self.device)]
        limits = np.array([request.max_tokens for request in requests])
        noise = torch.from_numpy(uniforms([request.seed for request in requests], int(limits.max()))).to(self.device)
        ids = np.zeros((len(requests), int(limits.max())), dtype=np.int64)
        logprobs = np.zeros(ids.shape, dtype=np.float32)
        lengths = np.zeros(len(requests), dtype=np.int64)
        row = np.arange(len(requests))  # which request each decoded row answers
        alive = np.ones(len(requests), dtype=bool)  # by decoded row
        for step in range(ids.shape[1]):
            beat("engine", "decoding a token")
            tokens, chosen = choose(logits, sampling.temperature, noise[torch.from_numpy(row).to(self.device), step])
            drawn = tokens.cpu().numpy()
            ids[row[alive], step] = drawn[alive]
            logprobs[row[alive], step] = chosen.cpu().numpy()[alive]
            lengths[row[alive]] = step + 1
            alive &= ~np.isin(drawn, sampling.stop_ids) & (step + 1 < limits[row])
            if not alive.any():
                break
            if alive.sum() <= KEEP * len(row):
                kept = torch.from_numpy(np.flatnonzero(alive)).to(self.device)
                decoding.keep(kept)
                tokens, row, alive = tokens[kept], row[alive], alive[alive]
            logits = decoding.advance(tokens)
        return [self._completion(ids[i, :n], logprobs[i, :n], sampling) for i, n in enumerate(lengths)]

    def _completion(self, ids: np.ndarray[Any, Any], logprobs: np.ndarray[Any, Any], sampling: Sampling) -> Completion:
        finish: Literal["stop", "length"] = "stop" if int(ids[-1]) in sampling.stop_ids else "length"
        return Completion(tuple(ids.tolist()), tuple(logprobs.tolist()), finish, self._version)

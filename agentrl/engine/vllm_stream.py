"""Single requests to vLLM: how they are asked and answered, and the stream of those that come and go."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

from agentrl.engine.base import Completion, Request, Sampling
from agentrl.engine.checks import require_room
from agentrl.errors import EngineError


class VLLMStream:
    """An :class:`agentrl.engine.base.Stream`: requests join and leave the running batch between two of its steps."""

    def __init__(self, core: Any, sampling: Sampling, context: int, version: int, adapter: Any) -> None:
        """``core``: the ``LLMEngine`` inside ``vllm.LLM``; ``context`` in tokens; ``version`` of its weights;
        ``adapter``: the LoRARequest that goes with every prompt, or None."""
        self._core = core
        self._sampling = sampling
        self._context = context
        self._version = version
        self._adapter = adapter
        self._running: set[int] = set()
        self.closed = False
        self.steps = 0  # of the engine, so far

    def advance(
        self, new: Sequence[tuple[int, Request]], dropped: Sequence[int] = (), wait_s: float = 0.05
    ) -> list[tuple[int, Completion]]:
        """Take in ``new``, forget ``dropped``, step until a request is finished or ``wait_s`` have passed.

        Raises EngineError, before anything is taken in.
        """
        for _, request in new:
            require_room(request, self._context, "raise")
        for key, request in new:
            prompt = {"prompt_token_ids": list(request.prompt_ids)}
            params = params_of(request, self._sampling)
            self._core.add_request(str(key), prompt, params, lora_request=self._adapter)
            self._running.add(key)
        self._forget(dropped)
        until = time.monotonic() + wait_s
        while self._running:
            self.steps += 1
            found = [(int(out.request_id), out.outputs[0]) for out in self._core.step() if out.finished]
            if found:
                self._running.difference_update(key for key, _ in found)
                return [(key, completion_of(output, self._sampling, self._version)) for key, output in found]
            if time.monotonic() >= until:
                break
        return []

    def close(self) -> None:
        """Abort what is still under way."""
        self._forget(list(self._running))
        self.closed = True

    def _forget(self, keys: Sequence[int]) -> None:
        known = [key for key in keys if key in self._running]
        if known:
            self._core.abort_request([str(key) for key in known])
            self._running.difference_update(known)


def params_of(request: Request, sampling: Sampling) -> Any:
    """The request's ``SamplingParams``."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=request.max_tokens,
        temperature=sampling.temperature,
        seed=request.seed % 2**63,
        stop_token_ids=list(sampling.stop_ids),
        ignore_eos=True,  # the stop ids are the whole truth
        logprobs=0,
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def completion_of(output: Any, sampling: Sampling, version: int) -> Completion:
    """A finished output of vLLM's. Raises EngineError where its logprobs are not those of its tokens."""
    ids = tuple(output.token_ids)
    flat = output.logprobs
    found = tuple(flat.logprobs[start] for start in flat.start_indices)
    if len(found) != len(ids) or tuple(flat.token_ids[start] for start in flat.start_indices) != ids:
        raise EngineError("engine: vLLM's logprobs are not those of the tokens it sampled; check its version")
    finish: Literal["stop", "length"] = "stop" if ids[-1] in sampling.stop_ids else "length"
    return Completion(ids, found, finish, version)

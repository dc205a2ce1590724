"""How vLLM gets the learner's weights: all of them, adapters merged (:class:`Merged`), or the base once and then the
adapter alone (:class:`Adapter`).

Merged weights are computed at full speed, but each push moves the whole model, and in bfloat16 a small adapter is
rounded into large weights. An adapter is a hundredth of that, stays exact beside its base, and can be read back; vLLM
adds it layer by layer, which a GPU hardly notices and a CPU does (3.5 times slower).

vLLM has no public way to hand over an adapter in memory. :class:`Adapter` therefore uses names of its LoRA manager
that it may move at any time, and checks for all of them at the start.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import torch

from agentrl.digest import Digest, weights_digest
from agentrl.engine.checks import checked, fitting
from agentrl.errors import ConfigError, EngineError

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # of adapters for which vLLM has room to give (its LoRAConfig)
FIRST = (0, 32)  # version of vLLM in which the names used by Adapter were read and tried
NAME, NUMBER = "policy", 1  # of the one adapter there is
HEAD = "lm_head"
NOWHERE = "handed over in memory"  # in place of a path, which must not be empty: never opened


class Holding(Protocol):
    """What of the learner's weights an engine holds, and how it takes them."""

    adapter_only: bool
    sleep_level: int  # vLLM's: 2 drops the weights, 1 keeps them in the host's memory
    named: Any  # the LoRARequest that goes with every prompt, or None

    def load(self, weights: Iterable[tuple[str, torch.Tensor]], awake: bool) -> None:
        """Take the weights over. Raises EngineError before anything is touched. ``awake``: else it slept until now."""
        ...

    def checksum(self) -> Digest | None:
        """Digest of what is held, in the engine's dtype; None: cannot be read back."""
        ...


class Merged:
    """All weights at each push, adapters merged into them by the learner."""

    adapter_only = False
    sleep_level = 2
    named = None

    def __init__(self, llm: Any, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> None:
        self._llm, self._shapes, self._dtype = llm, shapes, dtype

    def load(self, weights: Iterable[tuple[str, torch.Tensor]], awake: bool) -> None:
        """Replace all weights. All are checked first: an unknown, misshapen or missing one would leave vLLM broken."""
        given = ((name, tensor.to(self._dtype)) for name, tensor in checked(weights, self._shapes))
        if not awake:  # first the room for weights, then for keys and values, so that the peak stays low
            self._llm.wake_up(tags=["weights"])
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": given})
        self._tie_again()
        if not awake:
            self._llm.wake_up(tags=["kv_cache"])

    def checksum(self) -> None:
        """None: vLLM packs some weights for its kernels, which cannot be read back."""

    def _tie_again(self) -> None:
        """On a CPU a tied output head holds a packed copy of the embedding, which a reload does not renew."""
        from vllm.platforms import current_platform

        model = runner(self._llm).get_model()
        if current_platform.is_cpu() and getattr(model.config, "tie_word_embeddings", False):
            model.lm_head.weight = model.model.embed_tokens.weight
            model.lm_head.quant_method.process_weights_after_loading(model.lm_head)


class Adapter:
    """The base stays as it was loaded; each push hands over the adapter's tensors, ``<layer>.lora_A.weight`` and
    ``.lora_B.weight`` with its scale in it (:meth:`agentrl.model.Policy.adapter_weights`)."""

    adapter_only = True
    sleep_level = 1

    def __init__(self, llm: Any, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> None:
        """Raises ConfigError where this vLLM is not the known one, or has no place for some layer's adapter."""
        self._llm, self._shapes, self._dtype = llm, shapes, dtype
        try:
            from vllm.lora.lora_model import LoRAModel
            from vllm.lora.peft_helper import PEFTHelper
            from vllm.lora.request import LoRARequest
            from vllm.lora.utils import parse_fine_tuned_lora_name

            self._make, self._facts = LoRAModel.from_lora_tensors, PEFTHelper.from_dict
            self._manager = runner(llm).lora_manager._adapter_manager
            self._add, self._remove = self._manager.add_adapter, self._manager.remove_adapter
            self._activate, _ = self._manager.activate_adapter, self._manager.lora_index_to_id
            mapper = getattr(runner(llm).get_model(), "hf_to_vllm_mapper", None)
            self._mapper = None if mapper is None else mapper.get_rename_mapper()
            self._places = dict(self._stacked())
            self._where = {name: parse_fine_tuned_lora_name(name, self._mapper) for name in shapes}
            self.named = LoRARequest(NAME, NUMBER, NOWHERE)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise ConfigError(
                f"engine.lora=adapter: this vLLM keeps adapters elsewhere than version {'.'.join(map(str, FIRST))} "
                f"({error}); install that one, or use engine.lora=merged"
            ) from error
        homeless = [name for name, place in self._where.items() if place not in self._places]
        if homeless:
            raise ConfigError(
                f"engine.lora=adapter: vLLM has no place for {len(homeless)} of the adapter's tensors, the first is "
                f"'{homeless[0]}'; train other layers (model.lora_targets), or use engine.lora=merged"
            )

    def load(self, weights: Iterable[tuple[str, torch.Tensor]], awake: bool) -> None:
        """Put the adapter in place of the one before."""
        given = {name: tensor.to(self._dtype, copy=True) for name, tensor in fitting(weights, self._shapes)}
        if not awake:
            self._llm.wake_up()
        rank = rank_of(self._shapes)
        facts = self._facts({"r": rank, "lora_alpha": rank, "target_modules": layers_of(self._shapes)})  # scale 1
        device = str(next(iter(given.values())).device)
        adapter = self._make(NUMBER, given, facts, device=device, dtype=self._dtype, weights_mapper=self._mapper)
        self._remove(NUMBER)
        if not self._add(adapter) or not self._activate(NUMBER):
            raise EngineError("engine: vLLM did not take the new adapter; check its version")

    def checksum(self) -> Digest:
        """Digest of the tensors that its kernels read, in the place of the adapter that requests name.

        Raises EngineError where that adapter is not there.
        """
        try:
            slot = self._manager.lora_index_to_id.index(NUMBER)
        except ValueError:
            raise EngineError("engine: vLLM has lost the adapter; it would sample from the base model") from None
        return weights_digest(((name, self._read(name, slot)) for name in self._shapes), self._dtype)

    def _read(self, name: str, slot: int) -> torch.Tensor:
        rows, columns = self._shapes[name]
        return self._places[self._where[name]][slot, 0, :rows, :columns]

    def _stacked(self) -> Iterator[tuple[tuple[str, bool], torch.Tensor]]:
        """((layer, is it A?), [slots, 1, rows, columns]) of all layers, fused ones apart."""
        for name, layer in self._manager.modules.items():
            parts = self._manager.packed_modules.get(name, [name])
            if len(parts) != len(layer.lora_a_stacked):
                continue
            for part, a, b in zip(parts, layer.lora_a_stacked, layer.lora_b_stacked, strict=True):
                yield (part, True), a
                yield (part, False), b


def rank_of(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The largest rank of an adapter's layers."""
    return max(shape[0] for name, shape in shapes.items() if name.endswith("lora_A.weight"))


def layers_of(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The last names of the layers that have adapters, as q_proj."""
    return sorted({name.rsplit(".", 3)[-3] for name in shapes})


def room_for(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """What vLLM is started with, so that it has room for one adapter with these tensors. Raises ConfigError."""
    rank, layers = rank_of(shapes), layers_of(shapes)
    if rank > RANKS[-1]:
        raise ConfigError(
            f"engine.lora=adapter: got model.lora_rank={rank}, expected at most {RANKS[-1]}, which is all that vLLM "
            "has room for; lower it, or use engine.lora=merged"
        )
    if HEAD in layers:
        raise ConfigError(
            f"engine.lora=adapter: model.lora_targets names the output head '{HEAD}', with whose adapter vLLM cannot "
            "score the prompts that prove a push; leave it out, or use engine.lora=merged"
        )
    most = next(most for most in RANKS if most >= rank)
    return {"enable_lora": True, "max_loras": 1, "max_lora_rank": most, "lora_target_modules": layers}


def runner(llm: Any) -> Any:
    """What runs the model inside of ``vllm.LLM``."""
    return llm.llm_engine.model_executor.driver_worker.worker.model_runner

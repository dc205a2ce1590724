"""Environments of the verifiers package, as they are. See ``env`` and docs/environments/verifiers.md."""

from agentrl.envs.verifiers.env import Verifiers

__all__ = ["Verifiers"]

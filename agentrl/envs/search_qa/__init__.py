"""Search QA: answer questions by searching an encyclopedia, in the protocol of Search-R1."""

from agentrl.envs.search_qa.env import SearchQA

__all__ = ["SearchQA"]

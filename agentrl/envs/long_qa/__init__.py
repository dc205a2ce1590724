"""env=long_qa: questions that want several sentences, searched for and judged (see ``env``)."""

from agentrl.envs.long_qa.env import LongQA

__all__ = ["LongQA"]

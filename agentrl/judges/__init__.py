"""What an answer in prose is worth: one protocol, an offline rubric, and a language model behind an HTTP endpoint."""

from agentrl.judges.asking import Asking
from agentrl.judges.base import Fact, Judge, Rubric, Verdict
from agentrl.judges.client import ChatClient
from agentrl.judges.openai import OpenAI
from agentrl.judges.rules import Rules

__all__ = ["Asking", "ChatClient", "Fact", "Judge", "OpenAI", "Rubric", "Rules", "Verdict"]

"""Messages to tokens and back (``chat``), and what of a conversation the policy is shown (``contexts``)."""

from agentrl.chat.chat import Chat, tools_text
from agentrl.chat.contexts import Context, History, Window

__all__ = ["Chat", "Context", "History", "Window", "tools_text"]

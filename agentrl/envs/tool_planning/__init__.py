"""Planning with tools: call all that a query needs, then stop. See ``env`` and docs/environments/tool_planning.md."""

from agentrl.envs.tool_planning.env import ToolPlanning

__all__ = ["ToolPlanning"]

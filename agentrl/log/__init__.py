"""What a run tells: console, files, Weights & Biases, behind one :class:`Log`."""

from agentrl.log.base import Log, Many, RunFacts, Sink, open_logs
from agentrl.log.files import write_json

__all__ = ["Log", "Many", "RunFacts", "Sink", "open_logs", "write_json"]

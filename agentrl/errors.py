"""The error tree. Each error says what, where, got, expected, and what to do next::

    AgentRLError
     ├─ ConfigError (ValueError)      the composed config cannot be built; lists every problem
     ├─ EnvError                      an environment broke its contract or its backend failed
     ├─ EngineError                   the engine failed, or serves another policy_version than asked
     ├─ DataError (ValueError)        a file the user named is missing, truncated or of another format
     ├─ JudgeError                    a judge gave no verdict: no endpoint, no key, or replies off its grammar
     ├─ ShapeError (ValueError)       two things that must align do not; prints both
     ├─ DivergedError                 loss or gradient is not finite; nothing was learned from it
     ├─ AlarmError                    a guard that guards.stop names was alarmed; the run was saved
     ├─ OutOfMemory                   the machine or its GPU had no memory left; names the phase and what to turn
     ├─ CheckpointError               a checkpoint is incomplete or belongs to another config
     ├─ TeamError                     a process that learns with this one died, failed or fell silent
     ├─ DiskError                     a file cannot be written: the disk is full, read-only or not ours
     └─ Interrupted                   Ctrl-C: the run was saved; the message says how to resume
         └─ Terminated                SIGTERM: the same

The command line prints the message alone, without a traceback, and exits with ``exit_code``.
"""


class AgentRLError(Exception):
    """Base of every error a user can mend."""

    exit_code = 2


class ConfigError(AgentRLError, ValueError):
    """The composed config cannot be built; lists every problem."""


class EnvError(AgentRLError):
    """An environment broke its contract or its backend failed."""


class EngineError(AgentRLError):
    """The engine failed, or serves another policy_version than asked."""


class DataError(AgentRLError, ValueError):
    """A file the user named is missing, truncated or of another format."""


class JudgeError(AgentRLError):
    """A judge gave no verdict; an environment lets it pass, so that the episode earns no credit instead of 0."""


class ShapeError(AgentRLError, ValueError):
    """Two things that must align do not."""


class DivergedError(AgentRLError):
    """The loss or the gradient is not finite."""


class AlarmError(AgentRLError):
    """A guard that ``guards.stop`` names was alarmed; the run was saved."""


class OutOfMemory(AgentRLError):
    """The machine or its GPU had no memory left; the message names the phase and what to turn."""


class CheckpointError(AgentRLError):
    """A checkpoint is incomplete or belongs to another config."""


class DiskError(AgentRLError):
    """A file cannot be written: the disk is full, read-only or not ours."""


class TeamError(AgentRLError):
    """A process that learns with this one died, failed or fell silent."""


class Interrupted(AgentRLError):
    """Ctrl-C: the run was saved; the message says how to resume."""

    exit_code = 130


class Terminated(Interrupted):
    """SIGTERM: the run was saved; the message says how to resume."""

    exit_code = 143

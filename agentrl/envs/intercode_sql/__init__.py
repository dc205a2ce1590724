"""InterCode-SQL: questions answered by querying a database, on SQLite or on a server."""

from agentrl.envs.intercode_sql.env import InterCodeSql

__all__ = ["InterCodeSql"]

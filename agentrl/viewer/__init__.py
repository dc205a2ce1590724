"""Reading a run play by play: one HTML page that needs no server (``agentrl view``), the same in a terminal (``agentrl
show``). What a model or an environment wrote is text there and nothing else."""

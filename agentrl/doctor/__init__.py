"""``agentrl doctor``: is what will be trained on what was played, and does it reach the engine?

On the user's own model, environment and method: a small batch is played by the code of ``agentrl train``, and each
check asks one question of it, with a figure and a threshold. One file for each family; docs/doctor.md lists them.
"""

"""``agentrl plan``: the training loop as a simulation, to see how a cluster is best split and where its time goes.

``profile`` says how fast things are and how long episodes get, ``simulate`` plays the sampling of one batch, ``search``
puts batches, learner and pushes on one timeline and looks for the best split, ``reading`` takes a profile from a
finished run, ``report`` is the command.
"""

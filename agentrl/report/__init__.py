"""``agentrl report``: what finished runs show, and what they do not, as one HTML page, Markdown and LaTeX.

``reading`` finds runs, ``arms`` says which of them are seeds of one thing, ``statistics`` turns their plays into numbers,
``words`` and ``tables`` say them, ``page`` lays them out, ``command`` is the command.
"""

"""``agentrl report``: what finished runs show, and what they do not, as one HTML page, Markdown and LaTeX.

``reading`` finds runs, ``arms`` says which of them are seeds of one thing, ``statistics`` and ``costs`` turn what they
left into ``records`` of numbers; ``words`` and ``tables`` say them, ``pictures`` draws them, ``origins`` says where
they come from; ``page`` lays it all out, ``command`` is the command.
"""

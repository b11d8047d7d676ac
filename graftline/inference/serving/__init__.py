"""``graftline serve``: the champion over HTTP, on this machine alone.

A request's way: :mod:`guard` (who asks), :mod:`bodies` (what was sent, within :mod:`limits`),
:mod:`desk` (the queue and the threads that decode and predict), and back through :mod:`app`. Beside
it, :mod:`watcher` looks for a new champion and puts it in the place of the old one
(:mod:`models`).
"""

"""Slow clients by the thousand, and what our own clients notice of them.

`python -m tests.bench.slow_sessions` runs it. `scenarios` says who attacks and what holds against
it, `site` is the daemon with its mail server and the load of a usual day, `attackers` are the slow
clients, `watch` looks at the process meanwhile, `run` measures one scenario, `figures` is what is
left of it, with the targets, and `report` the table. `favour` is for machines that do other things
as well.
"""

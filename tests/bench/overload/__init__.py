"""The overload bench: what a sender feels when three times too much mail arrives.

`python -m tests.bench.overload` runs it; `__main__` says how. `plan` is what happens to everybody,
`backends` are the mail servers of known capacity, `peers` what stands before them, `run` measures
one peer, `bounds` is what queueing theory allows, `figures` what is left of a run, `targets` what
mailshed has to reach, `simulated` the same in the simulator, `report` the tables.
"""

"""The daemon's own interface: metrics and health for machines, status and commands for people.

`operations` is the thread that serves it, `api` the routes, `status` the document they send and
`screen` that document as text. Nothing is imported here, since the command line needs only
`screen` and must start fast.
"""

r"""mailshed: a mail delivery load-shedding daemon.

An async SMTP proxy in front of an internal mail server. The path of a message is the layout of
this package::

    listener -> classification -> admission -> relay -> backend
                                           \-> spool -> drain -> relay -> backend

Start reading at `parts.py` (which builds every object, in path order), then `pipeline.py` (the
path of one message as code).
"""

__version__ = "0.1.0"

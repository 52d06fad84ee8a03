"""The daemon's own decisions on a virtual clock, in front of a mail server that is a model."""

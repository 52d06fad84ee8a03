"""The command line: one verb a file; each asks the service, or does without it."""

"""Fuzzing: every parser that reads what a stranger sends, fed with what no stranger would think of.

`targets` has one function for each parser; it is given octets, feeds them to the parser and checks
what must hold whatever they are. `seeds` has the beginnings: the dialogs of the field and the
attacks that are known. `make fuzz` lets atheris (libFuzzer) search from there, led by the branches
that an input reaches; the tests here replay the seeds and some thousands of mutations of them.
"""

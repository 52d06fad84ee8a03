"""The kinds of evidence, one module each, in the order in which they become known and cost more.

A kind of evidence compiles its part of a rule into a condition: a function of a `Subject` that
answers whether that part holds, or None if the rule does not ask for it. To add a kind, write a
module with `compile_condition` and name it in `EVIDENCE`.
"""

from mailshed.classification.evidence import client, envelope, header

EVIDENCE = (client, envelope, header)
"""Modules in the order their conditions are tried: cheapest and earliest first."""

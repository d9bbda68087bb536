"""The Lua scripts: one file a transition, shared parts in `lib/`.

A script's header names the parts it builds on (`-- requires: a b`), its
arguments, what it returns and what it keeps true.
"""

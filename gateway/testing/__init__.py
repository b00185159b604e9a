"""Test support for plugins: `contract` checks an engine against every rule, `scripted` fails on demand.

`contract` imports pytest and pytest-asyncio, which the gateway does not bring; `scripted` needs neither.
"""

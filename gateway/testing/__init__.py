"""What a plugin's own tests need: `contract` asks an engine for every rule, `scripted` fails on demand.

`contract` imports pytest and pytest-asyncio, which the gateway does not bring; `scripted` needs neither.
"""

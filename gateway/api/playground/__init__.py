"""The playground: one page at `/` to chat, complete and operate with, served from this process."""

from gateway.api.playground.page import Playground

__all__ = ["Playground"]

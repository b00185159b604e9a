"""Tokens and templates for who wants to look at them, in the words of the vLLM and llama.cpp servers."""

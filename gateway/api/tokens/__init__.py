"""Tokenisation and chat templates, in the words of the vLLM and llama.cpp servers."""

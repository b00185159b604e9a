"""`llm-gateway conformance`: what an OpenAI-compatible server keeps of what its clients rely on."""

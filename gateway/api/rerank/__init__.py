"""The routes that judge texts: documents for a query, pairs, classes. In Cohere's, Jina's and vLLM's words."""

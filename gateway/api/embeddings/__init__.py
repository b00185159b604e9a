"""The routes that turn texts into vectors: OpenAI's, and llama.cpp's."""

"""The gateway's own dialect: `/v1/generate` and the models."""

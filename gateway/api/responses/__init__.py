"""OpenAI's newer dialect: `/v1/responses`, whose answers are stored and may be made in the background."""

"""The values that examples in the documentation share."""

MODEL = "smollm2-135m-instruct"
REQUEST_ID = "01KDVXK0M4Q2E6S9ZB3H7TJN5R"
PROMPT = "The capital of France is"
QUESTION = "What is the capital of France?"
CONVERSATION = [{"role": "user", "content": QUESTION}]

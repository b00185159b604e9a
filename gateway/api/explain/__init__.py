"""What would become of a request: `POST /v1/explain`."""

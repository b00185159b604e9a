"""`POST /v1/replay/{id}`: a recorded request run again."""

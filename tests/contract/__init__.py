"""The running server is held against `openapi.yaml` by Schemathesis, which here speaks for people with real codes."""

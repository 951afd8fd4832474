"""OpenAI's API around one engine. FastAPI and uvicorn are imported here alone."""

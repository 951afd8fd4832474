"""A server of OpenAI's API, from the side of the one who asks. Knows nothing of what is asked."""

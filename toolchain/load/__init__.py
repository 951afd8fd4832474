"""Load on a server of OpenAI's API: requests, their times, the figures of `vllm bench serve`."""

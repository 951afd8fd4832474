"""Token ids in, token ids out, on any session. Knows nothing of text or HTTP."""

"""Engines continue token prefixes. They know nothing of candidates, switching or LangChain."""

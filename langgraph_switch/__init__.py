"""Switch Generation as a LangChain LLM."""

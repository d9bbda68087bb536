"""The scenarios: every module here registers its own."""

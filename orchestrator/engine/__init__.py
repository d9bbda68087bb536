"""What orchestrator processes do: compile, expand, fan in, keep up."""

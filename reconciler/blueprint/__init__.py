"""Run the actions of blueprints: commands and verified streams in and out of containers."""

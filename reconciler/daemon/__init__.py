"""Settings, the pass, the calendar, health and metrics."""

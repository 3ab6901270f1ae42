"""A stream of tasks that comes and goes: adaptation on alarms beside never adapting and the last window's labels."""

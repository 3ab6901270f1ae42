"""The cells of the tables: what each depends on, how its model is made and judged, and who does the work."""

"""Pictures, tables and folders of the pages."""

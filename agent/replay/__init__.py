"""Starting runs again: from one of their steps, or with another configuration."""

"""``size``: what a model of a real size takes here, each part of the work in a process of its own."""

"""The computer at hand: processors, number formats, products, and where files are kept."""

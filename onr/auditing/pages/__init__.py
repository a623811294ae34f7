"""The pages of an audit and of a comparison: one HTML file each, charts and pictures included."""

"""The real chroma, mlx and bridge."""

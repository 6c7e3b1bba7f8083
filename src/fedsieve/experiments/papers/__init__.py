"""Published results, repeated and compared with what their papers say."""

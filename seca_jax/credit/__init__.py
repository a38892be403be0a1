"""Who deserves what: orders of assessment, path attribution, advantages. One equation a function."""

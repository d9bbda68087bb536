"""What `import penstock` hands out to Python programs."""

"""What a run leaves that predicts: its heads, its encoder found again, and both as files for elsewhere."""

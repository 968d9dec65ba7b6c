"""What a run needs besides its method: records, exact resume, safety."""

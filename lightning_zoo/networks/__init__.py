"""Networks that two methods share; they know nothing of Lightning."""

"""Call legs: signalling verbs and an `AudioPort` each."""

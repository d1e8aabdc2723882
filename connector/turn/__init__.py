"""Whose turn it is: endpointing, barge-in, the keypad and the turn state machine.

Everything here is pure and counts seconds of audio, never wall time: probabilities go in, decisions
come out, and the same recording gives the same turns on a loaded machine.
"""

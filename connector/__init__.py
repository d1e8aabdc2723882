"""The voxtrunk connector: takes a call's RTP, runs a flavor, sends speech back."""

__version__ = "0.1.0"

"""From the number called to the flavor that answers.

The exact number beats every prefix, the longest prefix beats every regular expression, regular
expressions count in file order, and the default comes last. A number is compared as the signalling
gives it, character by character: `+4930123`, `004930123` and `030123` are three numbers, because
only the PBX or trunk in front knows what it means by each. A regular expression can take them all.
"""

from connector.routing.router import Consideration, Decision, Router, shadowed

__all__ = ["Consideration", "Decision", "Router", "shadowed"]

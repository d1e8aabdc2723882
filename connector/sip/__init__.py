"""SIP without I/O: messages and the time in, events and datagrams out.

`message` reads and writes, `transactions` retransmits and absorbs, `dialog` keeps a call's identity,
`sdp` and `offer_answer` agree on media, `digest` proves who calls. Nothing here opens a socket or
reads a clock; `connector.leg.embedded` does both.
"""

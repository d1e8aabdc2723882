"""RTP, RTCP and telephone-events as bytes and numbers (RFC 3550, RFC 4733): no I/O, no clock."""

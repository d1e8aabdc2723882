"""OpenSIPS' management interface: commands as JSON-RPC over UDP, and the events of its UA sessions."""

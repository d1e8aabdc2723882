"""The stack around the connectors: OpenSIPS and rtpengine, their files, their processes, their ports."""

//! A fleet of agents: open loop, keep-alive TLS, latency without coordinated omission.

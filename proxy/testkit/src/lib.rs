//! What end-to-end tests stand on: certificates, a node process, a scripted core, raw clients.

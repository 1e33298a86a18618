//! The policies of an edge node, pure: time and randomness are arguments.

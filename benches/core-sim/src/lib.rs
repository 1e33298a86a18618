//! A core that speaks every contract, counts everything and fails on command.

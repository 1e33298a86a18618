//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::protection::Protection;
use crate::node::NodeArguments;

/// Storms that a node must stand: each scenario prints what was measured, what it must be, and whether it is.
#[derive(Debug, Parser)]
#[command(name = "storm", version, subcommand_negates_reqs = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) run: RunArguments,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists the scenarios and what can be switched off in each
    List,
    #[command(hide = true)]
    Node(NodeArguments),
}

#[derive(Clone, Debug, Args)]
pub(super) struct RunArguments {
    /// The scenario, or `all`
    #[arg(required = true)]
    pub(super) scenario: Option<String>,
    /// Runs without this protection: then the scenario must fail
    #[arg(long, value_name = "PROTECTION")]
    pub(super) without: Option<Protection>,
    /// Judges agents that talk to the core itself; virtual time only
    #[arg(long)]
    pub(super) direct: bool,
    /// The part in virtual time alone, where a scenario has one
    #[arg(long)]
    pub(super) r#virtual: bool,
    /// A size that a debug build on a busy machine can carry
    #[arg(long)]
    pub(super) small: bool,
    /// Agents of scenarios in virtual time
    #[arg(long, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    pub(super) agents: Option<u32>,
    /// The figures for machines
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// The plot; `SCENARIO.svg` unless named, and none for `all` unless named
    #[arg(long, value_name = "FILE")]
    pub(super) plot: Option<PathBuf>,
    /// The seed of every choice
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
}

//! `pilotage usage`: its flags.

use clap::{Args, Subcommand, ValueEnum};

use super::Reach;

/// Say who used how much, of what, and what it cost.
///
/// Asks the usage ledger of a running gateway: every request is a row there, kept in the data directory or in the
/// database that DATABASE_URL names. Sums are by whole hours, UTC. PRICE is what tenants were charged by the prices of
/// their Models; COST is their part of what replicas cost while they ran, by the
/// price of their Fleet, or else PILOTAGE_PRICE_BOOK or PILOTAGE_REPLICA_PRICES.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Usage {
    #[command(subcommand)]
    pub(crate) command: Option<UsageCommand>,
    #[command(flatten)]
    pub(crate) sums: UsageSums,
}

const EXAMPLES: &str = "\
Examples:
  pilotage usage                                     tenants of the last 30 days
  pilotage usage --by day,model --from 7d            models, day by day
  pilotage usage --by tenant,model,hardware --from 2027-01-01 --to 2027-02-01 -o csv > january.csv
  pilotage usage rows --tenant ann --limit 20        her last requests, one by one
  pilotage usage cost --from 30d                     who pays for what ran, was reserved, and stood idle
  pilotage usage budgets                             what is spent, what will be, and when it is used up

Exit codes:
  0  answered
  1  the gateway or its database did not answer
  2  what was typed is wrong";

/// Sums.
#[derive(Debug, Args)]
pub(crate) struct UsageSums {
    /// What to group by: some of tenant, tenant_path, model, version, hardware, band, day and hour
    #[arg(long, value_name = "NAMES", default_value = "tenant")]
    pub(crate) by: String,
    #[command(flatten)]
    pub(crate) when: UsageWhen,
    #[command(flatten)]
    pub(crate) of: UsageOf,
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// A table for people, JSON for machines, CSV for spreadsheets
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: UsageFormat,
}

/// What else there is to know.
#[derive(Debug, Subcommand)]
pub(crate) enum UsageCommand {
    /// Show requests one by one, the newest first
    Rows(UsageRows),
    /// Share out what replicas cost, such that it sums up to the bill
    Cost(UsageCost),
    /// Show budgets: spent, forecast, and when they are used up
    Budgets(UsageBudgets),
}

/// Requests one by one.
#[derive(Debug, Args)]
pub(crate) struct UsageRows {
    #[command(flatten)]
    pub(crate) when: UsageWhen,
    #[command(flatten)]
    pub(crate) of: UsageOf,
    /// Only the request with this id
    #[arg(long, value_name = "REQUEST_ID")]
    pub(crate) id: Option<String>,
    /// The most rows
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) limit: u64,
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// A table for people, JSON for machines, CSV for spreadsheets
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: UsageFormat,
}

/// Cost and its shares.
#[derive(Debug, Args)]
pub(crate) struct UsageCost {
    #[command(flatten)]
    pub(crate) when: UsageWhen,
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// A table for people, JSON for machines, CSV for spreadsheets
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: UsageFormat,
}

/// Budgets.
#[derive(Debug, Args)]
pub(crate) struct UsageBudgets {
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// A table for people, JSON for machines, CSV for spreadsheets
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: UsageFormat,
}

/// When.
#[derive(Debug, Args)]
pub(crate) struct UsageWhen {
    /// From when on: a date (2027-01-31), a time (2027-01-31T12:00:00Z), or how long ago (24h, 7d); 30 days
    /// before the end where nothing is said
    #[arg(long, value_name = "WHEN")]
    pub(crate) from: Option<String>,
    /// Until when, written the same way; now where nothing is said
    #[arg(long, value_name = "WHEN")]
    pub(crate) to: Option<String>,
}

/// Of whom and what.
#[derive(Debug, Args)]
pub(crate) struct UsageOf {
    /// Only this tenant's
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<String>,
    /// Only this Model's
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
}

/// How it is printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum UsageFormat {
    /// A table
    #[default]
    Table,
    /// JSON
    Json,
    /// CSV as of RFC 4180
    Csv,
}

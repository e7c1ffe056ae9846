//! `pilotage cost`: its flags.

use clap::Args;

use super::Manifests;
use crate::output::Format;

/// Say which Fleets a Model's copies should run on, what that costs, and why.
///
/// The Fleets of kind `nodes` in the manifests are weighed against each other by their `pricePerHour`, by
/// what one copy does there at the goal, and by whether nodes may be taken away (`spot`): every mix is looked
/// at, and the cheapest that carries the load is shown beside the next ones. What a copy does is predicted
/// from the model's files with --sizes, or taken from --capacity where you measured it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Cost {
    #[command(flatten)]
    pub(crate) manifests: Manifests,
    /// The Model; needed where the manifests have several
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Requests a second to be served
    #[arg(long, value_name = "N", required_unless_present = "url", value_parser = positive)]
    pub(crate) rate: Option<f64>,
    /// Tokens of a typical prompt
    #[arg(long, value_name = "TOKENS", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=(1 << 24)))]
    pub(crate) prompt: u64,
    /// Tokens of a typical answer
    #[arg(long, value_name = "TOKENS", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=(1 << 24)))]
    pub(crate) answer: u64,
    /// Take rate, prompt and answer from what a gateway sees: the address of its listener for operators. Its
    /// key is taken from PILOTAGE_ADMIN_KEY
    #[arg(long, value_name = "URL", conflicts_with = "rate")]
    pub(crate) url: Option<String>,
    /// How many times what comes there is planned for
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = positive, requires = "url")]
    pub(crate) times: f64,
    /// Requests a second that one copy ends on a Fleet, where you measured them. May be given several times
    #[arg(long = "capacity", value_name = "FLEET=N", value_parser = measured)]
    pub(crate) capacities: Vec<(String, f64)>,
    /// Copies that run now, to say what would be saved. May be given several times
    #[arg(long = "now", value_name = "FLEET=N", value_parser = running)]
    pub(crate) now: Vec<(String, u32)>,
    /// The part that is to be on nodes that stay, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 25, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) on_demand: u8,
    /// The most that one Fleet may have of which nodes are taken away, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) spot_share_max: u8,
    /// How often a node of a spot Fleet is taken away, in a hundred hours
    #[arg(long, value_name = "N", default_value_t = 5.0, value_parser = positive)]
    pub(crate) interruptions: f64,
    /// A table for people or JSON for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

const EXAMPLES: &str = "\
Examples:
  pilotage cost -f fleet.yaml --sizes --rate 12                          predicted from the model's files
  pilotage cost -f fleet.yaml --rate 12 --capacity h100=3.1 --capacity l4=0.4
  pilotage cost -f fleet.yaml --sizes --url http://127.0.0.1:8081 --times 1.5
  pilotage cost -f fleet.yaml --rate 12 --capacity h100=3.1 --now h100=6 what would be saved

Exit codes:
  0  there is a cheapest mix
  1  something could not be read
  2  what was typed is wrong
  3  the Fleets cannot carry it, or none can be weighed: the message says why";

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "write a number above zero".to_owned())
}

fn measured(text: &str) -> Result<(String, f64), String> {
    let (fleet, number) = text.split_once('=').ok_or("write FLEET=N")?;
    Ok((fleet.to_owned(), positive(number)?))
}

fn running(text: &str) -> Result<(String, u32), String> {
    let (fleet, number) = text.split_once('=').ok_or("write FLEET=N")?;
    let number = number.parse().map_err(|_| "write FLEET=N, with a whole number")?;
    Ok((fleet.to_owned(), number))
}

//! Recorded arrivals: Azure's CSV (a time and two lengths) and Mooncake's lines of JSON (which say,
//! too, which blocks of 512 tokens a prompt consists of).

use serde::Deserialize;
use thiserror::Error;

/// Tokens in one block of Mooncake's traces.
pub const BLOCK_TOKENS: u32 = 512;

/// Rows that a trace has at most.
pub const ROWS_MAX: usize = 2_000_000;

/// Tokens that a prompt or an answer has at most.
const TOKENS_MAX: u32 = 10_000_000;

/// One recorded request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Seconds since the first.
    pub at: f64,
    /// Tokens of the prompt.
    pub input: u32,
    /// Tokens of the answer.
    pub output: u32,
    /// The whole blocks that the prompt begins with, where the trace says.
    pub blocks: Vec<u64>,
    /// Tokens of each of them.
    pub block_tokens: u32,
}

/// Why a text is no trace.
#[derive(Debug, Error, PartialEq)]
pub enum TraceError {
    /// There is nothing in it.
    #[error("the trace has no rows")]
    Empty,
    /// There is too much in it.
    #[error("the trace has more than {ROWS_MAX} rows: cut it")]
    Long,
    /// A line is something else.
    #[error("line {line} of the trace is not {expected}")]
    Line {
        /// Which line, from one.
        line: usize,
        /// What it should be.
        expected: &'static str,
    },
}

#[derive(Deserialize)]
struct Mooncake {
    /// Milliseconds.
    timestamp: f64,
    input_length: u32,
    output_length: u32,
    #[serde(default)]
    hash_ids: Vec<u64>,
}

/// Reads a trace of either format, ordered by time.
///
/// # Errors
/// [`TraceError`] with the line.
pub fn read(text: &str) -> Result<Vec<Row>, TraceError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let json = text.trim_start().starts_with('{');
    let skipped = usize::from(!json);
    let mut rows = Vec::new();
    for (at, line) in lines.skip(skipped) {
        let row = if json { mooncake(line) } else { azure(line) };
        let expected = if json { MOONCAKE } else { AZURE };
        let row = row.filter(|row| row.input.max(row.output) <= TOKENS_MAX && row.at.is_finite());
        rows.push(row.ok_or(TraceError::Line { line: at + 1, expected })?);
        if rows.len() > ROWS_MAX {
            return Err(TraceError::Long);
        }
    }
    rows.sort_by(|one: &Row, other| one.at.total_cmp(&other.at));
    let origin = rows.first().ok_or(TraceError::Empty)?.at;
    rows.iter_mut().for_each(|row| row.at -= origin);
    Ok(rows)
}

const MOONCAKE: &str =
    "an object with timestamp in milliseconds, input_length, output_length and hash_ids";
const AZURE: &str = "a time such as 2023-11-16 18:15:46.68, input tokens and output tokens";

fn mooncake(line: &str) -> Option<Row> {
    let Mooncake { timestamp, input_length, output_length, mut hash_ids } =
        serde_json::from_str(line).ok()?;
    // The last block may be partly filled, and only whole ones can be found again.
    hash_ids.truncate((input_length / BLOCK_TOKENS) as usize);
    let at = timestamp / 1e3;
    let (input, output) = (input_length, output_length);
    Some(Row { at, input, output, blocks: hash_ids, block_tokens: BLOCK_TOKENS })
}

fn azure(line: &str) -> Option<Row> {
    let mut cells = line.split(',').map(str::trim);
    let at = moment(cells.next()?)?;
    let input = cells.next()?.parse().ok()?;
    let output = cells.next()?.parse().ok()?;
    Some(Row { at, input, output, ..Row::default() })
}

/// Seconds since the year 2000 of `YYYY-MM-DD HH:MM:SS.fraction`, which may end as UTC does.
fn moment(text: &str) -> Option<f64> {
    let text = text.trim_end_matches("+00:00").trim_end_matches('Z');
    let (date, clock) = text.split_once([' ', 'T'])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<u32>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut clock = clock.splitn(3, ':');
    let hour: u32 = clock.next()?.parse().ok().filter(|hour| *hour < 24)?;
    let minute: u32 = clock.next()?.parse().ok().filter(|minute| *minute < 60)?;
    let second: f64 = clock.next()?.parse().ok().filter(|second| (0.0..61.0).contains(second))?;
    let in_range = (2000..=9999).contains(&year) && (1..=12).contains(&month);
    if !in_range || !(1..=31).contains(&day) {
        return None;
    }
    let whole = (days(year, month, day) * 24 + hour) * 60 + minute;
    Some(f64::from(whole) * 60.0 + second)
}

/// Days since March of the year 2000, from which leap days come at the end of years.
fn days(year: u32, month: u32, day: u32) -> u32 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    // One cycle more, so that January 2000 stays above zero.
    let since = year - 1600;
    since * 365 + since / 4 - since / 100 + since / 400 + (month * 153 + 2) / 5 + day
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_are_read() {
        let azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n\
            2023-12-31 23:59:59.5,10,2\n2024-01-01 00:00:01.0000000,3,4\n";
        let row = |at, input, output, blocks: &[u64], block_tokens| Row {
            at,
            input,
            output,
            blocks: blocks.to_vec(),
            block_tokens,
        };
        assert_eq!(read(azure).unwrap(), [row(0.0, 10, 2, &[], 0), row(1.5, 3, 4, &[], 0)]);
        let mooncake = "{\"timestamp\": 3000, \"input_length\": 1100, \"output_length\": 5, \"hash_ids\": [0, 7, 9]}\n\
            {\"timestamp\": 1000, \"input_length\": 5, \"output_length\": 1, \"hash_ids\": [1]}";
        assert_eq!(
            read(mooncake).unwrap(),
            [row(0.0, 5, 1, &[], 512), row(2.0, 1100, 5, &[0, 7], 512)]
        );
    }

    #[test]
    fn what_is_no_trace_says_where() {
        let check = |text: &str, expect: &str| {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check("", "no rows");
        check("TIMESTAMP,a,b\n", "no rows");
        check("TIMESTAMP,a,b\n2023-11-16 18:15:46,1,2\nyesterday,1,2", "line 3");
        check("{\"timestamp\": 1}", "line 1");
        check("head\n2023-13-16 18:15:46,1,2", "line 2");
    }

    #[test]
    fn days_pass_one_by_one() {
        assert_eq!(days(2024, 3, 1) - days(2024, 2, 28), 2);
        assert_eq!(days(2023, 3, 1) - days(2023, 2, 28), 1);
        assert_eq!(days(2025, 1, 1) - days(2024, 1, 1), 366);
    }
}

//! Which format a scraper gets, by what it says that it takes (RFC 9110, 12.5.1).

/// A format of a scrape.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// OpenMetrics 1.0: text, with examples of traces.
    OpenMetrics,
    /// Prometheus' first text format, which everything reads.
    Plain,
    /// Prometheus' protobuf, the only one with native histograms.
    Protobuf,
}

impl Format {
    /// What an `Accept` header asks for most; without one, or where it asks for nothing of this, what
    /// everything reads.
    pub fn of(accept: Option<&str>) -> Self {
        let mut best = (0.0, Self::Plain);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let parameters: Vec<(String, &str)> = parts
                .filter_map(|part| part.split_once('='))
                .map(|(name, value)| {
                    (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"'))
                })
                .collect();
            let said = |name: &str| {
                parameters.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
            };
            let quality = match said("q") {
                None => 1.0,
                Some(text) => text.parse().unwrap_or(0.0),
            };
            let Some(format) = format(&kind, said) else { continue };
            if quality > best.0 {
                best = (quality, format);
            }
        }
        best.1
    }

    /// What an answer in it is called.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

fn format<'a>(kind: &str, said: impl Fn(&str) -> Option<&'a str>) -> Option<Format> {
    match kind {
        "application/vnd.google.protobuf" => {
            let families = said("proto") == Some("io.prometheus.client.MetricFamily");
            (families && said("encoding") == Some("delimited")).then_some(Format::Protobuf)
        }
        "application/openmetrics-text" => {
            matches!(said("version"), None | Some("1.0.0" | "0.0.1")).then_some(Format::OpenMetrics)
        }
        "text/plain" => matches!(said("version"), None | Some("0.0.4")).then_some(Format::Plain),
        "text/*" | "*/*" => Some(Format::Plain),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_what_it_asks_for_most() {
        let check = |accept, expect| assert_eq!(Format::of(accept), expect, "{accept:?}");
        check(None, Format::Plain);
        check(Some(""), Format::Plain);
        check(Some("*/*"), Format::Plain);
        check(Some("text/html,application/xhtml+xml,*/*;q=0.8"), Format::Plain);
        check(Some("application/openmetrics-text"), Format::OpenMetrics);
        check(Some("application/openmetrics-text; version=2.0.0"), Format::Plain);
        check(Some("application/json"), Format::Plain);
        check(
            Some("text/plain;q=0.3, application/openmetrics-text;q=\"0.9\""),
            Format::OpenMetrics,
        );
        // Prometheus 2.42, first as it is set up, then with native histograms.
        let usual = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        check(Some(usual), Format::OpenMetrics);
        let native = format!(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,{}",
            usual.replacen("1.0.0", "1.0.0;q=0.8", 1)
        );
        check(Some(&native), Format::Protobuf);
        // Prometheus 3, which says how names beyond the usual letters may come: ours have none.
        let third = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        check(Some(third), Format::OpenMetrics);
        // Text of single messages is none of ours.
        check(
            Some(
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text,text/plain;q=0.1",
            ),
            Format::Plain,
        );
        check(Some("application/openmetrics-text;q=0, text/plain;q=0.1"), Format::Plain);
    }
}
